@pg
Feature: Raft without a store
  Each member is a member of a PySyncObj cluster, beside a controller. Keys are those of the reference. Scenarios tagged @store run on it, too (`STORE=raft-three`, `STORE=raft-three-ours`: with three controllers, which can be killed as a store).

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

  # Of three votes the controller's stands still, then the other node's: what is left is no majority.
  Scenario: a primary that is left without a majority takes no writes
    Given the DCS is raft-ours
    And a running cluster of 2 members
    And the postmasters are remembered
    When the DCS is frozen
    Then PostgreSQL of node0 takes writes for 25 s
    And the postmasters are the remembered ones
    When the whole node of node1 is frozen
    Then PostgreSQL of node0 takes no writes within 30 s
    When the whole node of node1 is thawed
    And the DCS is thawed
    Then some member leads within 60 s
    And every other member follows the leader within 60 s

  # Its keys are at their end by everybody else's wall clock when they are written: a raft leader of the reference ends them.
  @ours
  Scenario: on Raft a wall clock that is off ends no lock
    Given the DCS is raft-ours
    When node0 is made with
      """
      tags: {}
      """
    And node0's wall clock can be set
    And node0 starts
    Then node0 leads within 60 s
    When node1 is added with
      """
      tags: {}
      """
    Then node1 follows node0 within 40 s
    When the postmasters are remembered
    And node0's wall clock is set by -3600 s
    Then PostgreSQL of node0 takes writes for 25 s
    When node0's wall clock is set by 7200 s
    Then PostgreSQL of node0 takes writes for 25 s
    And the DCS key "leader" matches "^node0$"
    And the postmasters are the remembered ones
    And no log says "demoted self"

  # The controller leads Raft, and ends keys by its own clock, which is an hour ahead of the node's: no lock is of use.
  @ours
  Scenario: on Raft a primary does not go on under a leader of the reference whose clock is ahead
    Given the DCS is raft
    When node0 is made with
      """
      tags: {}
      """
    And node0's wall clock can be set
    And node0 starts
    Then node0 leads within 60 s
    When node0's wall clock is set by -3600 s
    Then PostgreSQL of node0 takes no writes within 40 s
    And node0's log says "which leads Raft, is ahead of ours by"
    When node0's wall clock is set by 0 s
    Then node0 leads within 60 s
    And PostgreSQL of node0 takes writes for 5 s

  @ours
  Scenario: the disk of the primary's Raft files is full
    Given the DCS is raft-ours
    When node0 is made with
      """
      raft: {data_dir: LABNODE/disk/raft}
      """
    And node0's disk has 30 MB
    And node0 starts
    Then node0 leads within 60 s
    When node1 is added with
      """
      raft: {data_dir: LABNODE/raft}
      """
    Then node1 follows node0 within 40 s
    When `dd if=/dev/zero of=LABNODE/disk/ballast bs=4k count=100000 2>/dev/null; true` is run in node0's directory
    Then node1 leads within 60 s
    And node0's log says "this member takes no part until it is mended"
    When a row "after" is written on node1
    And `rm LABNODE/disk/ballast` is run in node0's directory
    Then node0 follows node1 within 60 s
    And the row "after" is on every member within 10 s
    When our patronictl is called with "switchover batman --leader node1 --candidate node0 --force"
    Then its exit code is 0
    And node0 leads within 20 s
