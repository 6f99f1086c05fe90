Feature: real clients
  The programs that users point at Patroni work with a cluster as it is.

  @ci
  Scenario: check_patroni's checks of a healthy cluster and of a paused one
    Given a running cluster of 2 members
    Then check_patroni says
      | all   | cluster_has_leader                          | 0 | CLUSTERHASLEADER OK              |
      | all   | cluster_has_replica                         | 0 | healthy_replica=1                |
      | all   | cluster_has_replica -w 1: -c 1:             | 0 | CLUSTERHASREPLICA OK             |
      | all   | cluster_has_replica -c 2:                   | 2 | CLUSTERHASREPLICA CRITICAL       |
      | all   | cluster_has_replica -c 1: --max-lag 1MB     | 0 | CLUSTERHASREPLICA OK             |
      | all   | cluster_node_count -w 2: -c 1:              | 0 | CLUSTERNODECOUNT OK              |
      | all   | cluster_node_count --healthy-critical 2:    | 0 | healthy_members=2                |
      | all   | cluster_is_in_maintenance                   | 0 | CLUSTERISINMAINTENANCE OK        |
      | all   | cluster_has_scheduled_action                | 0 | CLUSTERHASSCHEDULEDACTION OK     |
      | all   | cluster_config_has_changed -s config --save | 0 |                                  |
      | all   | cluster_config_has_changed -s config        | 0 | CLUSTERCONFIGHASCHANGED OK       |
      | node0 | node_is_alive                               | 0 | NODEISALIVE OK                   |
      | node0 | node_is_leader                              | 0 | NODEISLEADER OK                  |
      | node1 | node_is_leader                              | 2 | NODEISLEADER CRITICAL            |
      | node0 | node_is_primary                             | 0 | NODEISPRIMARY OK                 |
      | node1 | node_is_primary                             | 2 | NODEISPRIMARY CRITICAL           |
      | node0 | node_is_replica                             | 2 | NODEISREPLICA CRITICAL           |
      | node1 | node_is_replica                             | 0 | NODEISREPLICA OK                 |
      | node1 | node_is_replica --max-lag 16MB --is-async   | 0 | NODEISREPLICA OK                 |
      | node1 | node_is_replica --is-sync                   | 2 | NODEISREPLICA CRITICAL           |
      | node0 | node_is_pending_restart                     | 0 | NODEISPENDINGRESTART OK          |
      | node0 | node_tl_has_changed --timeline 1            | 0 | NODETLHASCHANGED OK              |
      | node0 | node_tl_has_changed --timeline 7            | 2 | NODETLHASCHANGED CRITICAL        |
      | node1 | node_tl_has_changed --timeline 1            | 0 | NODETLHASCHANGED OK              |
      | node0 | node_patroni_version --patroni-version 4.1.5 | 0 | NODEPATRONIVERSION OK           |
    When node0 is configured by PATCH with
      """
      {"pause": true, "postgresql": {"parameters": {"max_connections": 70}}}
      """
    Then check_patroni says
      | all   | cluster_is_in_maintenance            | 2 | CLUSTERISINMAINTENANCE CRITICAL  |
      | all   | cluster_config_has_changed -s config | 2 | CLUSTERCONFIGHASCHANGED CRITICAL |
      | node1 | node_is_pending_restart              | 2 | NODEISPENDINGRESTART CRITICAL    |
      | all   | cluster_has_leader                   | 0 | CLUSTERHASLEADER OK              |

  Scenario: check_patroni on synchronous standbys, a scheduled action, and a lost node
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true}}
      """
    And a running cluster of 2 members
    Then check_patroni says
      | node1 | node_is_replica --is-sync                            | 0 | NODEISREPLICA OK       |
      | node1 | node_is_replica --is-async                           | 2 | NODEISREPLICA CRITICAL |
      | all   | cluster_has_replica -c 1: --sync-critical 1:         | 0 | sync_replica=1         |
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": "quorum"}
      """
    Then check_patroni says
      | node1 | node_is_replica --is-sync --sync-type quorum         | 0 | NODEISREPLICA OK       |
      | all   | cluster_has_replica --sync-critical 1: --sync-type quorum | 0 | CLUSTERHASREPLICA OK |
    When a switchover from node0 to node1 is posted for 3600 s from now
    Then check_patroni says
      | all   | cluster_has_scheduled_action | 2 | CLUSTERHASSCHEDULEDACTION CRITICAL |
    When the whole node of node0 is killed
    Then node1 leads within 40 s
    And check_patroni says
      | node0 | node_is_alive                         | 3 | NODEISALIVE UNKNOWN         |
      | all   | cluster_node_count --healthy-critical 2: | 2 | CLUSTERNODECOUNT CRITICAL   |
      | all   | cluster_has_leader                    | 0 | CLUSTERHASLEADER OK         |
      | node1 | node_tl_has_changed --timeline 1      | 2 | NODETLHASCHANGED CRITICAL   |

  Scenario: HAProxy follows a switchover and a failover
    Given a running cluster of 3 members
    And HAProxy with the stock configuration
    Then SQL "SELECT pg_is_in_recovery()" gives "f" through HAProxy's primary within 20 s
    And SQL "SELECT pg_is_in_recovery()" gives "t" through HAProxy's replicas within 20 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And SQL "SELECT current_setting('cluster_name') || pg_is_in_recovery()" gives "batmanfalse" through HAProxy's primary within 30 s
    When the whole node of node1 is killed
    Then another member than node1 leads within 40 s
    And SQL "SELECT pg_is_in_recovery()" gives "f" through HAProxy's primary within 30 s
    And SQL "SELECT pg_is_in_recovery()" gives "t" through HAProxy's replicas within 30 s

  @ci
  Scenario: vip-manager moves the virtual address with the leader
    Given a running cluster of 2 members
    And vip-manager runs beside every member, once for the DCS and once for the REST API
    Then the virtual addresses are on node0 alone within 20 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And the virtual addresses are on node1 alone within 20 s
    And node0 follows node1 within 30 s
    When patronictl is called with "failover batman --candidate node0 --force"
    Then its exit code is 0
    And the virtual addresses are on node0 alone within 20 s

  @ours
  Scenario: who has come out of a failover as the primary tells what took how long
    Given a running cluster of 2 members
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And these shell lines succeed
      """
      curl -sf http://127.0.0.1:$REST_node1/metrics >metrics && $PROMTOOL check metrics <metrics >lint 2>&1; ! grep -i error lint
      test "$(grep -c '^patroni_last_failover_seconds{.*phase="\(race\|preparation\|promotion\)"} [0-9]' metrics)" = 3
      ! curl -sf http://127.0.0.1:$REST_node0/metrics | grep last_failover
      """

  @ci
  Scenario: Prometheus reads the metrics of a leader and a replica
    Given a running cluster of 2 members
    Then these shell lines succeed
      """
      curl -sf http://127.0.0.1:$REST_node0/metrics >metrics && $PROMTOOL check metrics <metrics >lint 2>&1; ! grep -i error lint
      curl -sf http://127.0.0.1:$REST_node1/metrics >metrics && $PROMTOOL check metrics <metrics >lint 2>&1; ! grep -i error lint
      """
    When Prometheus scrapes every member
    Then Prometheus finds "sum(patroni_primary)" = "1" within 20 s
    And Prometheus finds "sum(patroni_replica)" = "1" within 20 s
    And Prometheus finds "sum(patroni_postgres_running{scope='batman'})" = "2" within 20 s
    And Prometheus finds "sum(patroni_postgres_streaming)" = "1" within 20 s
    And Prometheus finds "max(patroni_version)" = "40105" within 20 s
    And Prometheus finds "count(patroni_xlog_location) + count(patroni_xlog_replayed_location)" = "4" within 20 s

  @ci
  Scenario: the reference's client code reads every key
    Given the members are configured with
      """
      tags: {clonefrom: true, note: "x y"}
      """
    And a running cluster of 2 members
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And node0 follows node1 within 30 s
    When node1 is configured by PATCH with
      """
      {"synchronous_mode": true, "failsafe_mode": true, "slots": {"keep": {"type": "physical"}}}
      """
    Then the DCS key "sync" matches "node0" within 30 s
    And the DCS key "status" matches "keep" within 30 s
    And the DCS key "failsafe" matches "node0" within 30 s
    And the DCS key "history" matches "node1" within 30 s
    When a switchover from node1 to node0 is posted for 3600 s from now
    Then the reference's client code reads from the DCS
      | initialize                | true                                                |
      | config.ttl                | 20                                                  |
      | config.synchronous_mode   | true                                                |
      | config.slots              | {"keep": {"type": "physical"}}                      |
      | leader.name               | "node1"                                             |
      | leader.session            | true                                                |
      | leader.member             | true                                                |
      | leader.conn_url           | "postgres://127.0.0.1:<PG_node1>/postgres"          |
      | members.node0.session     | true                                                |
      | members.node0.state       | "running"                                           |
      | members.node0.role        | "replica"                                           |
      | members.node1.role        | "primary"                                           |
      | members.node0.timeline    | 2                                                   |
      | members.node0.api_url     | "http://127.0.0.1:<REST_node0>/patroni"             |
      | members.node0.conn_url    | "postgres://127.0.0.1:<PG_node0>/postgres"          |
      | members.node0.tags        | {"clonefrom": true, "note": "x y"}                  |
      | members.node0.clonefrom   | true                                                |
      | members.node0.nofailover  | false                                               |
      | members.node0.is_running  | true                                                |
      | members.node0.lsn         | true                                                |
      | members.node0.receive_lsn | true                                                |
      | members.node0.replay_lsn  | true                                                |
      | members.node0.patroni_version | [4, 1, 5]                                       |
      | status.last_lsn           | true                                                |
      | status.lsns               | true                                                |
      | status.slots              | ["keep", "node0", "node1"]                          |
      | failover.leader           | "node1"                                             |
      | failover.candidate        | "node0"                                             |
      | sync.leader               | "node1"                                             |
      | sync.sync_standby         | "node0"                                             |
      | sync.quorum               | 0                                                   |
      | history                   | [[1, true, "no recovery target specified", true, "node1"]] |
      | failsafe                  | {"node0": "http://127.0.0.1:<REST_node0>/patroni", "node1": "http://127.0.0.1:<REST_node1>/patroni"} |
      | is_paused                 | false                                               |

  Scenario: operators' tools parse what patronictl prints
    Given a running cluster of 2 members
    Then these shell lines succeed
      """
      # Crunchy's and Percona's operators: JSON with Role, State and TL, and nothing on stderr
      $CTL list -f json 2>err >out && test ! -s err && python3 -c 'import json; m = {x["Member"]: x for x in json.load(open("out"))}; assert m["node0"]["Role"] == "Leader" and m["node0"]["State"] == "running" and m["node0"]["TL"] == 1, m; assert m["node1"]["Role"] == "Replica" and m["node1"]["State"] == "streaming" and m["node1"]["TL"] == 1, m; assert set(m["node1"]) >= {"Cluster", "Member", "Host", "Role", "State", "TL"}, m'
      $CTL show-config 2>err >out && test ! -s err && grep -qx 'ttl: 20' out
      # Autobase: names and states out of the table
      test "$($CTL list | grep Leader | awk '{print $2}')" = node0
      test "$($CTL list | grep -v Leader | grep streaming | awk -F'|' '{gsub(/ /, "", $2); print $2}')" = node1
      test "$($CTL list batman | grep Replica | grep -ci 'running\|streaming')" = 1
      # Zalando's and pgMonitor's: tab separated
      test "$($CTL list -f tsv | awk -F'\t' '$4 == "Leader" {print $2}')" = node0
      # The scope in the head line, as scripts cut it out
      $CTL list | head -n 1 | grep -Eq '^\+ Cluster: batman \([0-9]+\) -+\+'
      # Crunchy's operator looks for these words, in lower case, and for an empty stderr
      $CTL switchover --leader node0 --candidate node1 --force >out 2>err; grep -q 'switched over' out && test ! -s err
      """
    And node1 leads within 20 s
    And node0 follows node1 within 30 s
    And these shell lines succeed
      """
      $CTL failover --candidate node0 --force >out 2>err; grep -q 'failed over' out && test ! -s err
      """
    And node0 leads within 20 s
