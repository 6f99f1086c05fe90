@pg
Feature: Raft without a store
  Each member is a member of a PySyncObj cluster, beside a controller. Keys are those of the reference. Scenarios tagged @store run on it, too (`STORE=raft`, `STORE=raft-ours`).

  Scenario Outline: a cluster on Raft, and a switchover: <controller>
    Given the DCS is <controller>
    And a running cluster of 2 members
    And a writer
    When our patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 30 s
    When the writer is stopped
    Then no acknowledged row is missing

    Examples:
      | controller |
      | raft       |
      | raft-ours  |

  @mixed
  Scenario: on Raft the leadership goes from the reference to us, and back
    Given the DCS is raft
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
  Scenario Outline: on Raft the node of the leader of one kind is killed, the other takes over: <leader>
    Given the DCS is <controller>
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
      | leader    | other     | controller |
      | reference | ours      | raft-ours  |
      | ours      | reference | raft       |
