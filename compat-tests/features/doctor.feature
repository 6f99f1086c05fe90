Feature: doctor
  What is wrong with a cluster is told in one report, and nothing is changed.

  Scenario: a healthy cluster, a pause, and a member that is gone
    Given a running cluster of 2 members
    When our patronictl is called with "doctor batman"
    Then its exit code is 0
    And its output contains "node0 leads"
    And its output contains "1 of 1 other members could take over"
    When our patronictl is called with "switchover batman --check"
    Then its exit code is 0
    And its output contains "A switchover from node0 to node1 can be done"
    When our patronictl is called with "switchover batman --check --candidate node0"
    Then its exit code is 2
    When our patronictl is called with "pause batman --wait"
    And our patronictl is called with "doctor batman -f json"
    Then its exit code is 1
    And its output contains "the cluster is paused"
    When our patronictl is called with "resume batman --wait"
    And the whole node of node1 is killed
    And our patronictl is called with "doctor batman -f yaml"
    Then its exit code is 2
    And node0 leads within 10 s
