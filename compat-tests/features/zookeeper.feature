@pg
Feature: ZooKeeper as the DCS
  Sessions, keys and owners are those of the reference. All scenarios tagged @store run on it, too (`STORE=zookeeper`).

  @ci
  Scenario: a cluster on ZooKeeper, and a switchover
    Given the DCS is zookeeper
    And a running cluster of 2 members
    And a writer
    Then the members' keys have leases
    When our patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 30 s
    When the writer is stopped
    Then no acknowledged row is missing
    And the writer met at most 1 gap over 1500 ms

  @ci @mixed
  Scenario: on ZooKeeper the leadership goes from the reference to us, and back
    Given the DCS is zookeeper
    And a running cluster of the members
      | node0 | reference |
      | node1 | ours      |
    When our patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 30 s
    When patronictl of the reference is called with "switchover batman --leader node1 --candidate node0 --force"
    Then its exit code is 0
    And node0 leads within 20 s
    And node1 follows node0 within 30 s
    And both patronictls print the same for
      | list batman    |
      | history batman |

  @mixed
  Scenario Outline: on ZooKeeper the node of the leader of one kind is killed, the other takes over: <leader>
    Given the DCS is zookeeper
    And a running cluster of the members
      | node0 | <leader> |
      | node1 | <other>  |
    When the whole node of node0 is killed
    Then node1 leads within 40 s
    When a row "after" is written on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And the row "after" is on every member within 10 s

    Examples:
      | leader    | other     |
      | ours      | reference |
      | reference | ours      |

  @ours
  Scenario: a leader key that is taken away, and a daemon that is started again
    Given the DCS is zookeeper
    And a running cluster of 2 members
    When the DCS key "leader" is deleted
    Then some member leads within 20 s
    And every other member follows the leader within 40 s
    When the daemon of node0 is killed
    And node0's daemon is started again
    Then some member leads within 40 s
    And every other member follows the leader within 40 s

  Scenario: servers that an Exhibitor tells of
    Given the DCS is exhibitor
    And a running cluster of 2 members
    When our patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 30 s
