Feature: mixed clusters
  In one cluster, members of the reference and of patroni-rs understand each other.

  @ci @mixed @store
  Scenario: the leadership goes from the reference to us, and back
    Given a running cluster of the members
      | node0 | reference |
      | node1 | ours      |
      | node2 | reference |
    And a writer
    When patronictl of the reference is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And every other member follows the leader within 30 s
    When our patronictl is called with "switchover batman --leader node1 --candidate node2 --force"
    Then its exit code is 0
    And node2 leads within 20 s
    And every other member follows the leader within 30 s
    And no log says "running pg_rewind"
    When the writer is stopped
    Then no acknowledged row is missing

  @ci @mixed @store
  Scenario: our leader's node is killed, the reference takes over
    Given a running cluster of the members
      | node0 | ours      |
      | node1 | reference |
    When the whole node of node0 is killed
    Then node1 leads within 40 s
    When a row "after" is written on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And the row "after" is on every member within 10 s

  @ci @mixed @store
  Scenario: the reference's leader's node is killed, we take over
    Given a running cluster of the members
      | node0 | reference |
      | node1 | ours      |
    When the whole node of node0 is killed
    Then node1 leads within 40 s
    When a row "after" is written on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And the row "after" is on every member within 10 s

  @ci @mixed @store
  Scenario: either patronictl serves either leader
    Given a running cluster of the members
      | node0 | ours      |
      | node1 | reference |
    Then both patronictls print the same for
      | list batman                |
      | list batman -e -f json     |
      | list batman -f yaml        |
      | list batman -f tsv         |
      | -d <DCS_URL> list batman   |
      | topology batman            |
      | history batman             |
      | show-config batman         |
      | dsn batman                 |
      | dsn batman -r replica      |
    When patronictl of the reference is called with "pause batman --wait"
    Then its exit code is 0
    And the DCS key "config" matches ".pause.:true"
    When our patronictl is called with "resume batman --wait"
    Then its exit code is 0
    When patronictl of the reference is called with "edit-config batman --force --set postgresql.parameters.work_mem=9MB"
    Then SQL "SHOW work_mem" gives "9MB" on node0 within 15 s
    And SQL "SHOW work_mem" gives "9MB" on node1 within 15 s
    When our patronictl is called with "edit-config batman --force --set postgresql.parameters.work_mem=10MB"
    Then SQL "SHOW work_mem" gives "10MB" on node1 within 15 s
    When patronictl of the reference is called with "restart batman node0 --force"
    Then its output contains "Success: restart on member node0"
    When our patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 0
    And node1 follows node0 within 30 s
    When our patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And node0 follows node1 within 30 s
    And both patronictls print the same for
      | list batman                |
      | history batman             |
