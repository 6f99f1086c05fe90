@pg
Feature: cascading replication
  A replica may copy from, and follow, another replica.

  Scenario: a member with replicatefrom
    Given a running cluster of 2 members
    When node2 is added with
      """
      tags: {replicatefrom: node1}
      """
    Then node2 follows node1 within 40 s
    And node1 has the replication slots "node0,node2" within 20 s
    When a row "passed" is written on node0
    Then the row "passed" is on every member within 10 s

  Scenario: a copy is taken from a member with clonefrom
    Given a running cluster of 2 members where node1 has
      """
      tags: {clonefrom: true}
      """
    Then the DCS key "members/node1" matches ".state.:.running." within 10 s
    When node2 is added with
      """
      tags: {}
      """
    Then node2 follows node0 within 40 s
    And node2's log says "bootstrapped from replica 'node1'"

  Scenario: nostream lives from the archive
    Given the members are configured with
      """
      bootstrap:
        dcs:
          postgresql:
            parameters: {archive_mode: 'on', archive_command: "mkdir -p LABROOT/archive && cp %p LABROOT/archive/%f"}
            recovery_conf: {restore_command: cp LABROOT/archive/%f %p}
      """
    And a running cluster of 1 member
    When node1 is added with
      """
      tags: {nostream: true}
      """
    Then node1's log says "no action. I am (node1), a secondary, and following a leader (node0)" within 60 s
    When a row "shipped" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    Then the row "shipped" is on every member within 30 s
    And node0 has the replication slots "" within 5 s
    And SQL "SELECT count(*) FROM pg_stat_wal_receiver" gives "0" on node1 within 5 s
    And GET "/patroni" of node1 has "replication_state" = "in archive recovery" within 10 s

  Scenario: nostream gets no logical slots, and a node that follows it streams from it
    Given the members are configured with
      """
      bootstrap:
        dcs:
          postgresql:
            parameters: {wal_level: logical, archive_mode: 'on', archive_command: "mkdir -p LABROOT/archive && cp %p LABROOT/archive/%f"}
            recovery_conf: {restore_command: cp LABROOT/archive/%f %p}
          slots: {decode: {type: logical, database: postgres, plugin: test_decoding}}
      """
    And a running cluster of 1 member
    When node1 is added with
      """
      tags: {nostream: true}
      """
    And SQL "SELECT pg_switch_wal()" is run on node0
    Then GET "/patroni" of node1 has "replication_state" = "in archive recovery" within 60 s
    And the DCS key "members/node1" matches "in archive recovery" within 10 s
    When node2 is added with
      """
      tags: {replicatefrom: node1}
      """
    Then node2 streams from node1 within 60 s
    And node1 has the replication slots "node0,node2" within 30 s
    And node0 has the replication slots "decode,node2" within 30 s
    When a row "shipped" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    Then the row "shipped" is on every member within 30 s
