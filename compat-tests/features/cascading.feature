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
    When node2 is added with
      """
      tags: {}
      """
    Then node2 follows node0 within 40 s
    And node2's log says "bootstrapped from replica 'node1'"
