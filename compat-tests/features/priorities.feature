Feature: priorities
  Who may lead, and who is preferred.

  Scenario: failover_priority decides between equals
    Given a running cluster of 3 members where node2 has
      """
      tags: {failover_priority: 2}
      """
    When the whole node of node0 is killed
    Then node2 leads within 40 s

  Scenario: nofailover is never promoted
    Given a running cluster of 2 members where node1 has
      """
      tags: {nofailover: true}
      """
    When node0 is shut down
    Then the DCS key "leader" is absent within 10 s
    And node1's log says "following a different leader because I am not allowed to promote" within 20 s
    When node0 is started
    Then node0 leads within 30 s

  Scenario: noloadbalance hides a replica
    Given a running cluster of 2 members where node1 has
      """
      tags: {noloadbalance: true}
      """
    Then node1 answers 503 to "/replica"
    And node1 answers 503 to "/read-only"
    And node1 answers 200 to "/health"

  Scenario: failover_priority 0 is nofailover
    Given a running cluster of 3 members where node1 has
      """
      tags: {failover_priority: 0}
      """
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 1
    When the whole node of node0 is killed
    Then node2 leads within 40 s
    And node1 follows node2 within 30 s

  Scenario: a nofailover member may follow, and steps back when it becomes nofailover
    Given a running cluster of 2 members
    When node1's configuration is changed by
      """
      tags: {nofailover: true}
      """
    And node1 is sent SIGHUP
    Then the DCS key "members/node1" matches "nofailover.:true" within 10 s
    When patronictl is called with "failover batman --candidate node1 --force"
    Then its exit code is 1
    And node0 leads within 5 s

  Scenario: sync_priority decides who is synchronous
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true}}
      """
    And a running cluster of 3 members where node2 has
      """
      tags: {sync_priority: 10}
      """
    Then the DCS key "sync" matches ".sync_standby.:.node2.\}" within 40 s

  Scenario: the lower of two priorities leads only where the higher is away
    Given a running cluster of 3 members where node2 has
      """
      tags: {failover_priority: 2}
      """
    When the whole node of node0 is killed
    Then node2 leads within 40 s
    And node1 follows node2 within 30 s
    When node0 is started
    Then node0 follows node2 within 60 s
    When node1's configuration is changed by
      """
      tags: {failover_priority: 3}
      """
    And node1 is sent SIGHUP
    Then the DCS key "members/node1" matches "failover_priority.:3" within 10 s
    When the whole node of node2 is killed
    Then node1 leads within 40 s

  Scenario: nofailover and failover_priority that contradict each other
    Given a running cluster of 2 members where node1 has
      """
      tags: {nofailover: true, failover_priority: 1}
      """
    Then node1's log says "onflicting configuration between nofailover: True and failover_priority: 1. Defaulting to nofailover: True"
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 1
    When node1's configuration is changed by
      """
      tags: {nofailover: false, failover_priority: 0}
      """
    And node1 is sent SIGHUP
    Then node1's log says "onflicting configuration between nofailover: False and failover_priority: 0. Defaulting to nofailover: False" within 20 s
    And the DCS key "members/node1" matches "nofailover.:false" within 10 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
