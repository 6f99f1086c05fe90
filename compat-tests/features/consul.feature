Feature: Consul as the DCS
  The sessions, keys and services are those of the reference. The server has ACLs, and refuses what the token must not.

  @ci
  Scenario: a cluster on Consul, and a switchover
    Given the DCS is consul
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
  Scenario: on Consul the leadership goes from the reference to us, and back
    Given the DCS is consul
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
  Scenario Outline: on Consul the node of the leader of one kind is killed, the other takes over: <leader>
    Given the DCS is consul
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

  Scenario: Consul is killed, the primary is demoted, and leads again when it is back
    Given the DCS is consul
    And a running cluster of 2 members
    When the DCS is killed
    Then PostgreSQL of node0 takes no writes within 30 s
    When the DCS is started
    Then some member leads within 40 s
    And every other member follows the leader within 60 s

  Scenario: Consul is frozen, the primary is demoted, and leads again when it is back
    Given the DCS is consul
    And a running cluster of 2 members
    When the DCS is frozen
    Then PostgreSQL of node0 takes no writes within 30 s
    When the DCS is thawed
    Then some member leads within 40 s
    And every other member follows the leader within 60 s

  Scenario: Consul is away, and failsafe mode keeps the primary
    Given the DCS is consul
    And the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 2 members
    Then the DCS key "failsafe" matches "node0.*node1" within 20 s
    When the DCS is killed
    Then PostgreSQL of node0 takes writes for 25 s
    And node0's log says "continue to run as a leader because failsafe mode is enabled and all members are accessible" within 10 s
    When the DCS is started
    Then node0 leads within 40 s
    And no log says "demoted self"

  Scenario: a short outage of Consul is none
    Given the DCS is consul
    And a running cluster of 2 members
    And the postmasters are remembered
    When the DCS is frozen
    Then PostgreSQL of node0 takes writes for 3 s
    When the DCS is thawed
    Then node0 answers 200 to "/primary" within 20 s
    And the postmasters are the remembered ones

  @ours
  Scenario: a session that is lost, and a leader key that is taken away
    Given the DCS is consul
    And a running cluster of 2 members
    When the DCS key "leader" is deleted
    Then some member leads within 20 s
    And every other member follows the leader within 40 s
    When the daemon of node0 is killed
    And node0's daemon is started again
    Then some member leads within 40 s
    And every other member follows the leader within 40 s

  Scenario: the cluster is paused, and resumed
    Given the DCS is consul
    And a running cluster of 2 members
    When our patronictl is called with "pause batman --wait"
    Then its exit code is 0
    When the postmasters are remembered
    And the DCS is killed
    Then PostgreSQL of node0 takes writes for 15 s
    When the DCS is started
    Then node0 leads within 40 s
    And the postmasters are the remembered ones
    When our patronictl is called with "resume batman --wait"
    Then its exit code is 0
