Feature: migration
  A cluster of the reference becomes ours, one node after the other, under an application that writes.

  @ci @mixed
  Scenario: a rolling migration loses nothing
    Given a running cluster of the members
      | node0 | reference |
      | node1 | reference |
      | node2 | reference |
    And a writer
    When node1 is shut down and started as ours
    Then node1 follows node0 within 40 s
    When node2 is shut down and started as ours
    Then node2 follows node0 within 40 s
    When our patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And every other member follows the leader within 30 s
    When node0 is shut down and started as ours
    Then node0 follows node1 within 40 s
    When the writer is stopped
    Then no acknowledged row is missing
    And the writer met at most 1 gap over 1500 ms

  @mixed
  Scenario: the daemons are exchanged under a PostgreSQL that keeps running
    Given a running cluster of the members
      | node0 | reference |
      | node1 | reference |
    And a writer
    When patronictl of the reference is called with "pause batman --wait"
    And the postmasters are remembered
    And node1 is shut down and started as ours
    And node0 is shut down and started as ours
    Then node0 leads within 30 s
    When our patronictl is called with "resume batman --wait"
    Then node1 follows node0 within 30 s
    And the postmasters are the remembered ones
    When the writer is stopped
    Then no acknowledged row is missing
    And the writer met at most 0 gaps over 1500 ms
