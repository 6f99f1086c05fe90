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
