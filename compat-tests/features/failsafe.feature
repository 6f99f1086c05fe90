Feature: failsafe mode
  With failsafe mode, a primary that can reach all members stays one while the DCS is away.

  @store
  Scenario: etcd is killed, the primary stays, until a member is gone as well
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 2 members
    Then the DCS key "failsafe" matches "node1" within 20 s
    When etcd is killed
    Then PostgreSQL of node0 takes writes for 25 s
    And node0's log says "continue to run as a leader because failsafe mode is enabled and all members are accessible" within 10 s
    When the whole node of node1 is killed
    Then PostgreSQL of node0 takes no writes within 30 s
    When etcd is started
    Then node0 leads within 40 s

  @store
  Scenario: the DCS comes back, and nothing has changed
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 3 members
    Then the DCS key "failsafe" matches "node1" within 20 s
    And the DCS key "failsafe" matches "node2" within 20 s
    And a writer
    When etcd is killed
    Then GET "/patroni" of node1 has "failsafe_mode_is_active" = "true" within 30 s
    And PostgreSQL of node0 takes writes for 25 s
    When etcd is started
    Then node0 leads within 20 s
    And every other member follows the leader within 20 s
    And no log says "demoted self"
    And no log says "promoted self to leader by acquiring"
    When the writer is stopped
    Then no acknowledged row is missing

  Scenario: a member that was shut down, but is still listed, demotes the primary
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 3 members
    Then the DCS key "failsafe" matches "node1" within 20 s
    And the DCS key "failsafe" matches "node2" within 20 s
    When etcd is killed
    Then node0's log says "continue to run as a leader because failsafe mode is enabled" within 20 s
    When node2 is shut down
    Then PostgreSQL of node0 takes no writes within 30 s
    When etcd is started
    Then some member leads within 40 s

  Scenario: a member that joins later has a vote, too
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 1 member
    Then the DCS key "failsafe" matches "^\{.node0.:.http://127.0.0.1:[0-9]+/patroni.\}$" within 20 s
    When node1 is added with
      """
      tags: {}
      """
    Then node1 follows node0 within 60 s
    And the DCS key "failsafe" matches "node0.*node1" within 20 s
    When etcd is killed
    Then PostgreSQL of node0 takes writes for 25 s
    When etcd is started
    Then node0 leads within 20 s

  Scenario: a cluster of one goes on without the DCS
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 1 member
    Then the DCS key "failsafe" matches "node0" within 20 s
    When etcd is killed
    Then GET "/primary" of node0 has "failsafe_mode_is_active" = "true" within 20 s
    And PostgreSQL of node0 takes writes for 25 s
    And node0 answers 200 to "/primary"
    When etcd is started
    Then node0 leads within 20 s
    And node0's timeline is 1

  Scenario: a copy that no primary has listed may not lead
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 1 member
    Then the DCS key "failsafe" matches "node0" within 20 s
    When `pg_basebackup -D LABROOT/backup -h 127.0.0.1 -p LABPORT -U replicator -X stream -c fast` is run in node0's directory
    And node0 is shut down
    And node1 is added with
      """
      postgresql:
        create_replica_methods: [mine]
        mine: {command: cp -a LABROOT/backup LABDATA, no_leader: true, no_params: true}
      """
    Then node1's log says "bootstrapped (without leader)" within 40 s
    And node1's log says "following a different leader because i am not the healthiest node" within 20 s
    And node1 answers 503 to "/primary"
    And the DCS key "leader" is absent within 1 s
    When node0 is started
    Then node0 leads within 40 s
    And node1 follows node0 within 40 s
    And the DCS key "failsafe" matches "node1" within 20 s
    And the DCS key "failsafe" matches "node0" within 1 s

  Scenario: a listed replica takes over from a primary that died without a DCS
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 2 members
    Then the DCS key "failsafe" matches "node0.*node1" within 20 s
    When etcd is killed
    Then node0's log says "continue to run as a leader because failsafe mode is enabled" within 20 s
    And GET "/replica" of node1 has "failsafe_mode_is_active" = "true" within 10 s
    When the whole node of node0 is killed
    And etcd is started
    Then node1 leads within 60 s
    When node0 is started
    Then node0 follows node1 within 60 s

  Scenario: slots move on while the DCS is away
    Given the members are configured with
      """
      bootstrap:
        dcs:
          failsafe_mode: true
          postgresql: {parameters: {wal_level: logical}}
      """
    And a running cluster of 3 members
    # Made now, the slot needs no WAL from before the copy.
    When node0 is configured by PATCH with
      """
      {"slots": {"keep": {"type": "physical"}, "decode": {"type": "logical", "database": "postgres", "plugin": "test_decoding"}}}
      """
    Then the DCS key "failsafe" matches "node1" within 20 s
    And the DCS key "failsafe" matches "node2" within 20 s
    And node1 has the replication slots "decode,keep,node0,node2" within 40 s
    And node1's log says "Logical slot decode is safe to be used after a failover" within 40 s
    When etcd is killed
    Then GET "/patroni" of node1 has "failsafe_mode_is_active" = "true" within 30 s
    When a row "without" is written on node0
    And SQL "SELECT count(*) FROM pg_logical_slot_get_changes('decode', NULL, NULL)" is run on node0
    And SQL "SELECT pg_replication_slot_advance('keep', pg_current_wal_flush_lsn())" is run on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    Then the slot "decode" of node1 has come as far as that of node0 within 40 s
    And the slot "keep" of node1 has come as far as that of node0 within 40 s
    # Those of other members, too.
    And the slot "node2" of node1 has come as far as that of node0 within 40 s
    And the slot "node1" of node2 has come as far as that of node0 within 40 s
    And GET "/patroni" of node1 has "failsafe_mode_is_active" = "true" within 5 s
    When etcd is started
    Then node0 leads within 20 s
    And the slot "decode" of node1 has come as far as that of node0 within 20 s

  # node2's position, for the slot that node0 keeps for it, is told by node2's answers alone.
  Scenario: slots of who follows a replica move on while the DCS is away
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 2 members
    When node2 is added with
      """
      tags: {replicatefrom: node1}
      """
    Then node2 follows node1 within 40 s
    And the DCS key "failsafe" matches "node2" within 20 s
    And node0 has the replication slots "node1,node2" within 40 s
    When etcd is killed
    Then GET "/patroni" of node1 has "failsafe_mode_is_active" = "true" within 30 s
    When a row "without" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    Then the row "without" is on every member within 20 s
    And the slot "node2" of node0 has come as far as that of node1 within 40 s
    When etcd is started
    Then node0 leads within 20 s
