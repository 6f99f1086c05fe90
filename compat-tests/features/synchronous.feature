Feature: synchronous modes
  A commit that was acknowledged is on any node that may lead next, whatever changes in between.

  @ci @store
  Scenario: on, quorum, on and off, the leader changes in the middle
    Given a running cluster of 3 members
    And a writer
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": true}
      """
    Then the DCS key "sync" matches "^\{.leader.:.node0.,.quorum.:0,.sync_standby.:.node[12].\}$" within 30 s
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": "quorum"}
      """
    And patronictl is called with "switchover batman --leader node0 --force"
    Then another member than node0 leads within 30 s
    And every other member follows the leader within 40 s
    And the DCS key "sync" matches "^\{.leader.:.node[12].,.quorum.:1,.sync_standby.:.node[012],node[012].\}$" within 40 s
    And one of the replicas answers 200 to "/quorum" within 10 s
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": true}
      """
    And patronictl is called with "failover batman --candidate node0 --force"
    Then node0 leads within 30 s
    And every other member follows the leader within 40 s
    And the DCS key "sync" matches "^\{.leader.:.node0.,.quorum.:0,.sync_standby.:.node[12].\}$" within 40 s
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": false}
      """
    Then SQL "SHOW synchronous_standby_names" gives "" on node0 within 20 s
    And the DCS key "sync" does not match "node"
    When the writer is stopped
    Then no acknowledged row is missing

  Scenario: from on to quorum, and the leader's node dies at once
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true}}
      """
    And a running cluster of 3 members
    And the DCS key "sync" matches "sync_standby.:.node[12]" within 30 s
    And a writer
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": "quorum"}
      """
    And the whole node of node0 is killed
    Then another member than node0 leads within 50 s
    When node0 is started
    Then node0 follows the leader within 60 s
    And the DCS key "sync" matches ".quorum.:1,.sync_standby.:.node[012],node[012]." within 40 s
    When the writer is stopped
    Then no acknowledged row is missing

  Scenario: from quorum to on, and the leader's node dies
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: quorum}}
      """
    And a running cluster of 3 members
    And the DCS key "sync" matches ".quorum.:1,.*node1,node2" within 30 s
    And a writer
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": true}
      """
    # Until the new standby has confirmed, nobody may take over: no vote is asked for any more.
    And the DCS key "sync" matches ".quorum.:0,.sync_standby.:.node[12].\}" within 30 s
    And the whole node of node0 is killed
    Then another member than node0 leads within 50 s
    When node0 is started
    Then node0 follows the leader within 60 s
    And the DCS key "sync" matches ".quorum.:0,.sync_standby.:.node[012].\}" within 40 s
    When the writer is stopped
    Then no acknowledged row is missing

  Scenario: the number of nodes changes under quorum, and the leader with it
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: quorum, synchronous_node_count: 2}}
      """
    And a running cluster of 3 members
    Then the DCS key "sync" matches ".quorum.:0,.sync_standby.:.node1,node2." within 40 s
    And SQL "SHOW synchronous_standby_names" gives "ANY 2 (node1,node2)" on node0 within 20 s
    When a writer
    And node0 is configured by PATCH with
      """
      {"synchronous_node_count": 1}
      """
    And patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 30 s
    And every other member follows the leader within 40 s
    And the DCS key "sync" matches ".leader.:.node1.,.quorum.:1,.sync_standby.:.node0,node2." within 40 s
    When node1 is configured by PATCH with
      """
      {"synchronous_node_count": 2}
      """
    And the whole node of node1 is killed
    Then another member than node1 leads within 50 s
    When node1 is started
    Then node1 follows the leader within 60 s
    And the DCS key "sync" matches ".quorum.:0,.sync_standby.:.node[012],node[012]." within 40 s
    When the writer is stopped
    Then no acknowledged row is missing

  Scenario: two synchronous standbys by priority
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true, synchronous_node_count: 2}}
      """
    And a running cluster of 3 members
    Then the DCS key "sync" matches ".quorum.:0,.sync_standby.:.node1,node2." within 40 s
    And node1 answers 200 to "/sync" within 5 s
    And node2 answers 200 to "/sync" within 5 s
    And node1 answers 503 to "/async" within 5 s
    When node2 is shut down
    Then the DCS key "sync" matches ".sync_standby.:.node1.\}" within 20 s

  Scenario: only a synchronous standby takes over
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true}}
      """
    And a running cluster of 3 members where node1 has
      """
      tags: {sync_priority: 5}
      """
    Then the DCS key "sync" matches ".sync_standby.:.node1.\}" within 40 s
    When patronictl is called with "switchover batman --leader node0 --candidate node2 --force"
    Then its output contains "candidate name does not match with sync_standby"
    And node0 leads within 5 s
    When the whole node of node0 is killed
    Then node1 leads within 40 s
    And node2 follows node1 within 30 s
    And the DCS key "sync" matches ".leader.:.node1.,.quorum.:0,.sync_standby.:.node2." within 30 s

  Scenario: a nosync member is no synchronous standby, strict waits for one
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true, synchronous_mode_strict: true}}
      """
    And a running cluster of 2 members where node1 has
      """
      tags: {nosync: true}
      """
    Then SQL "SHOW synchronous_standby_names" gives "*" on node0 within 20 s
    And node0's log says "No standbys available!" within 20 s
    And node1 answers 503 to "/sync"
    And the DCS key "sync" matches ".leader.:.node0.,.quorum.:0,.sync_standby.:null" within 10 s
    When node1's configuration is changed by
      """
      tags: {nosync: null}
      """
    And node1 is sent SIGHUP
    Then the DCS key "sync" matches ".sync_standby.:.node1." within 30 s
    And node1 answers 200 to "/sync" within 10 s

  Scenario: a member that lags is no synchronous standby
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true, maximum_lag_on_syncnode: 1000000, synchronous_mode_strict: false}}
      """
    And a running cluster of 3 members
    Then the DCS key "sync" matches ".sync_standby.:.node[12]." within 40 s
    When the synchronous standby is remembered
    And the whole node of the remembered one is frozen
    And SQL "SET synchronous_commit = local; SELECT pg_logical_emit_message(false, 'x', repeat('x', 2000000))" is run on node0
    Then another synchronous standby is chosen within 60 s
    When the whole node of the remembered one is thawed
    Then every other member follows the leader within 60 s

  Scenario: a synchronous standby that leaves asks to be released first
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true}}
      """
    And a running cluster of 2 members
    Then the DCS key "sync" matches ".sync_standby.:.node1." within 40 s
    When node1 is shut down
    Then node1's log says "Waiting for primary to release us from synchronous standby"
    And the DCS key "sync" matches ".sync_standby.:null" within 10 s
    And SQL "SHOW synchronous_standby_names" gives "" on node0 within 10 s

  Scenario: with remote_apply a standby that replays nothing is none
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true, maximum_lag_on_syncnode: 1000000, postgresql: {parameters: {synchronous_commit: remote_apply}}}}
      """
    And a running cluster of 3 members where node1 has
      """
      tags: {sync_priority: 5}
      """
    Then the DCS key "sync" matches ".sync_standby.:.node1.\}" within 40 s
    # Outside of pause, a standby of PostgreSQL 14 and later is made to go on.
    When patronictl is called with "pause batman --wait"
    And the synchronous standby is remembered
    And SQL "SELECT pg_wal_replay_pause()" is run on node1
    And SQL "SET synchronous_commit = local; SELECT pg_logical_emit_message(false, 'x', repeat('x', 2000000))" is run on node0
    Then another synchronous standby is chosen within 40 s
    And node2 answers 200 to "/sync" within 10 s
    And node1 answers 200 to "/async" within 10 s
    When patronictl is called with "resume batman --wait"
    Then node1's log says "Resuming paused WAL replay for PostgreSQL 14+" within 20 s
    And the DCS key "sync" matches ".sync_standby.:.node1.\}" within 40 s

  Scenario: synchronous standbys come and go, and their number changes
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true}}
      """
    And a running cluster of 3 members
    Then the DCS key "sync" matches ".sync_standby.:.node[12].\}" within 40 s
    When node2 is shut down
    Then the DCS key "sync" matches ".sync_standby.:.node1.\}" within 20 s
    When node2 is started
    Then node2 follows node0 within 40 s
    When node1 is shut down
    Then the DCS key "sync" matches ".sync_standby.:.node2.\}" within 20 s
    When node1 is started
    Then node1 follows node0 within 40 s
    And node2 answers 200 to "/sync" within 10 s
    And node1 answers 200 to "/async" within 10 s
    And node2 answers 200 to "/read-only-sync" within 10 s
    And node1 answers 503 to "/read-only-sync"
    When node0 is configured by PATCH with
      """
      {"synchronous_node_count": 2}
      """
    Then the DCS key "sync" matches ".sync_standby.:.node1,node2.\}" within 20 s
    And node1 answers 200 to "/sync" within 10 s
    When node0 is configured by PATCH with
      """
      {"synchronous_node_count": 1}
      """
    Then the DCS key "sync" matches ".sync_standby.:.node[12].\}" within 20 s
    And node0 leads within 5 s

  @ours
  Scenario: a stranger under a member's name confirms nothing
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: quorum}}
      """
    And a running cluster of 3 members where node1 has
      """
      tags: {sync_priority: 5}
      """
    Then the DCS key "sync" matches ".quorum.:1,.sync_standby.:.node1,node2.\}" within 40 s
    When a writer
    And a stranger receives WAL from node0 under the name Node1
    Then node0's log says "node1 can not be synchronous: somebody else streams under that name" within 20 s
    And the DCS key "sync" matches ".leader.:.node0.,.quorum.:0,.sync_standby.:.node2.\}" within 20 s
    And SQL "SHOW synchronous_standby_names" gives "ANY 1 (node2)" on node0 within 10 s
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": true}
      """
    # Alone it is not the member either.
    And the whole node of node1 is killed
    Then SQL "SELECT count(*) FROM pg_stat_replication WHERE application_name ILIKE 'node1'" gives "1" on node0 within 20 s
    And SQL "SHOW synchronous_standby_names" gives "node2" on node0 within 5 s
    And the DCS key "sync" matches ".sync_standby.:.node2.\}" within 5 s
    When the whole node of node0 is killed
    And node1 is started
    Then node2 leads within 50 s
    When the stranger leaves
    Then node1 follows node2 within 60 s
    And the DCS key "sync" matches ".sync_standby.:.node1.\}" within 40 s
    When the writer is stopped
    Then no acknowledged row is missing

  @ours
  Scenario: a member whose name application_name does not carry is synchronous
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true}}
      """
    And a running cluster of 1 member
    When knotenä is added with
      """
      tags: {}
      """
    Then the DCS key "sync" matches ".leader.:.node0.,.quorum.:0,.sync_standby.:.knoten" within 60 s
    And SQL "SHOW synchronous_standby_names" gives ""knoten??"" on node0 within 10 s
    And SQL "SELECT sync_state FROM pg_stat_replication" gives "sync" on node0 within 10 s
    When a writer
    And patronictl is called with "switchover batman --leader node0 --candidate knotenä --force"
    Then its exit code is 0
    And knotenä leads within 30 s
    And node0 follows knotenä within 40 s
    And the DCS key "sync" matches ".sync_standby.:.node0." within 20 s
    When the writer is stopped
    Then no acknowledged row is missing
