Feature: failsafe mode
  With failsafe mode, a primary that can reach all members stays one while the DCS is away.

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
