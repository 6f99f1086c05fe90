@pg
Feature: replication slots
  Slots of members, and permanent slots that survive a failover.

  Scenario: permanent physical and logical slots
    Given the members are configured with
      """
      bootstrap: {dcs: {postgresql: {parameters: {wal_level: logical}}}}
      """
    And a running cluster of 2 members
    When node0 is configured by PATCH with
      """
      {"slots": {"keep": {"type": "physical"}, "decode": {"type": "logical", "database": "postgres", "plugin": "test_decoding"}}}
      """
    Then node0 has the replication slots "decode,keep,node1" within 20 s
    And node1 has the replication slots "decode,keep,node0" within 40 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And node1 has the replication slots "decode,keep,node0" within 10 s
    When node1 is configured by PATCH with
      """
      {"slots": null}
      """
    Then node1 has the replication slots "node0" within 20 s

  Scenario: a logical slot that cannot be made stands in the way of no other
    Given the members are configured with
      """
      bootstrap: {dcs: {postgresql: {parameters: {wal_level: logical}}}}
      """
    And a running cluster of 1 member
    When node0 is configured by PATCH with
      """
      {"slots": {"bad": {"type": "logical", "database": "nowhere", "plugin": "test_decoding"},
                 "closed": {"type": "logical", "database": "template0", "plugin": "test_decoding"},
                 "worse": {"type": "logical", "database": "postgres", "plugin": "no_such_plugin"},
                 "good": {"type": "logical", "database": "postgres", "plugin": "test_decoding"}}}
      """
    Then node0 has the replication slots "good" within 20 s
    And node0's log says "Failed to create logical replication slot 'bad' plugin='test_decoding'"
    And node0's log says "Failed to create logical replication slot 'worse' plugin='no_such_plugin'"
    And node0's log does not say "(?s)logical replication slot 'bad'.*logical replication slot 'bad'"

  Scenario: a slot that nobody asked for goes, one that is to be ignored stays
    Given the members are configured with
      """
      bootstrap: {dcs: {ignore_slots: [{name: mine, type: physical}]}}
      """
    And a running cluster of 1 member
    When SQL "SELECT pg_create_physical_replication_slot('mine'), pg_create_physical_replication_slot('stray')" is run on node0
    And node0 is configured by PATCH with
      """
      {"slots": {"keep": {"type": "physical"}}}
      """
    Then node0 has the replication slots "keep,mine" within 20 s

  Scenario: a logical slot goes on after a failover
    Given the members are configured with
      """
      bootstrap: {dcs: {postgresql: {parameters: {wal_level: logical}}}}
      """
    And a running cluster of 2 members
    When node0 is configured by PATCH with
      """
      {"slots": {"decode": {"type": "logical", "database": "postgres", "plugin": "test_decoding"}}}
      """
    Then node1 has the replication slots "decode,node0" within 40 s
    And SQL "SHOW hot_standby_feedback" gives "on" on node1 within 10 s
    When a row "first" is written on node0
    Then SQL "SELECT count(*) > 0 FROM pg_logical_slot_get_changes('decode', NULL, NULL)" gives "t" on node0 within 10 s
    And node1's log says "Logical slot decode is safe to be used after a failover" within 40 s
    When a row "second" is written on node0
    Then the row "second" is on every member within 10 s
    When the whole node of node0 is killed
    Then node1 leads within 40 s
    And SQL "SELECT count(*) > 0 FROM pg_logical_slot_get_changes('decode', NULL, NULL) WHERE data LIKE '%second%'" gives "t" on node1 within 10 s
    When node0 is started
    Then node0 follows node1 within 60 s
    And node0 has the replication slots "decode,node1" within 60 s
    When node1 is configured by PATCH with
      """
      {"slots": null}
      """
    Then node0 has the replication slots "node1" within 30 s
    And SQL "SHOW hot_standby_feedback" gives "off" on node0 within 20 s

  Scenario: slots to be ignored, by plugin and database
    Given the members are configured with
      """
      bootstrap:
        dcs:
          ignore_slots: [{type: logical, database: postgres, plugin: test_decoding}]
          postgresql: {parameters: {wal_level: logical}}
      """
    And a running cluster of 2 members
    When SQL "SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')" is run on node0
    And SQL "SELECT pg_create_logical_replication_slot('stray', 'pgoutput')" is run on node0
    And node0 is configured by PATCH with
      """
      {"slots": {"keep": {"type": "physical"}}}
      """
    Then node0 has the replication slots "keep,node1,theirs" within 30 s
    And node1 has the replication slots "keep,node0" within 30 s

  Scenario: PostgreSQL's own failover slots are its own
    Given PostgreSQL 17
    And the members are configured with
      """
      bootstrap:
        dcs:
          postgresql:
            parameters: {wal_level: logical, sync_replication_slots: 'on', hot_standby_feedback: 'on', synchronized_standby_slots: node1}
      """
    And a running cluster of 2 members
    When SQL "SELECT pg_create_logical_replication_slot('own', 'pgoutput', false, false, true)" is run on node0
    And node0 is configured by PATCH with
      """
      {"slots": {"keep": {"type": "physical"}}}
      """
    Then node0 has the replication slots "keep,node1,own" within 30 s
    And node1 has the replication slots "keep,node0,own" within 60 s
    And the DCS key "status" does not match "own"
    And node1's log does not say "Trying to drop unknown replication slot 'own'"

  Scenario: the slot of a member that is away stays for member_slots_ttl
    Given the members are configured with
      """
      bootstrap: {dcs: {member_slots_ttl: 30s}}
      """
    And a running cluster of 3 members
    Then node1 has the replication slots "node0,node2" within 30 s
    When the whole node of node2 is killed
    Then node0's log says "Replication slot 'node2' for absent cluster member is expired after 30 sec." within 90 s
    And node0 has the replication slots "node1" within 10 s
    And the DCS key "status" matches "slots.:\{.node[01].:[0-9]+,.node[01].:[0-9]+\},.retain_slots.:\[.node0.,.node1.\]" within 10 s

  Scenario: permanent slots move on with the leader's, also down a cascade
    Given the members are configured with
      """
      bootstrap:
        dcs:
          postgresql: {parameters: {wal_level: logical}}
      """
    And a running cluster of 2 members
    When node2 is added with
      """
      tags: {replicatefrom: node1}
      """
    Then node2 follows node1 within 40 s
    When node0 is configured by PATCH with
      """
      {"slots": {"keep": {"type": "physical"}, "node9": {"type": "physical"}, "decode": {"type": "logical", "database": "postgres", "plugin": "test_decoding"}}}
      """
    Then node0 has the replication slots "decode,keep,node1,node2,node9" within 40 s
    And node1 has the replication slots "decode,keep,node0,node2,node9" within 40 s
    And node2 has the replication slots "decode,keep,node0,node1,node9" within 40 s
    When a row "on" is written on node0
    And SQL "SELECT count(*) FROM pg_logical_slot_get_changes('decode', NULL, NULL)" is run on node0
    And SQL "SELECT pg_replication_slot_advance('keep', pg_current_wal_flush_lsn()), pg_replication_slot_advance('node9', pg_current_wal_flush_lsn())" is run on node0
    Then the slot "decode" of node1 has come as far as that of node0 within 30 s
    And the slot "decode" of node2 has come as far as that of node0 within 30 s
    And the slot "keep" of node1 has come as far as that of node0 within 30 s
    And the slot "keep" of node2 has come as far as that of node0 within 30 s
    And the slot "node9" of node2 has come as far as that of node0 within 30 s
    And the DCS key "status" matches "slots.*decode" within 10 s
    And the DCS key "status" matches "slots.*keep" within 1 s
    And the DCS key "status" matches "slots.*node9" within 1 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And node1 has the replication slots "decode,keep,node0,node2,node9" within 20 s
    And node2 has the replication slots "decode,keep,node0,node1,node9" within 40 s

  Scenario: slots to be ignored are left alone when their node steps down and comes back
    Given the members are configured with
      """
      bootstrap:
        dcs:
          ignore_slots: [{name: theirs0, type: physical}, {name: theirs1, database: postgres, plugin: test_decoding, type: logical}, {name: theirs2}]
          postgresql: {parameters: {wal_level: logical}}
      """
    And a running cluster of 2 members
    When SQL "SELECT pg_create_physical_replication_slot('theirs0'), pg_create_logical_replication_slot('theirs1', 'test_decoding'), pg_create_physical_replication_slot('theirs2'), pg_create_logical_replication_slot('stray', 'test_decoding')" is run on node0
    And patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And node0 follows node1 within 40 s
    And node0 has the replication slots "node1,theirs0,theirs1,theirs2" within 30 s
    And node1 has the replication slots "node0" within 10 s
    When patronictl is called with "switchover batman --leader node1 --candidate node0 --force"
    Then node0 leads within 20 s
    And node1 follows node0 within 40 s
    And node0 has the replication slots "node1,theirs0,theirs1,theirs2" within 10 s
