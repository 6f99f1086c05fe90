@pg
Feature: what happens to the store, whatever it is
  `STORE` names it; scripts/test-stores runs these on all of them. A member that is cut off from it is of real chaos
  (`compat-chaos --dcs`), which has a network for each node.

  @store
  Scenario: the store is stopped orderly, and comes back
    Given a running cluster of 2 members
    When the DCS is stopped
    Then PostgreSQL of node0 takes no writes within 30 s
    When the DCS is started
    Then some member leads within 40 s
    And every other member follows the leader within 60 s

  @store
  Scenario: an outage that is shorter than the lock is none
    Given a running cluster of 2 members
    And the postmasters are remembered
    When the DCS is frozen
    Then PostgreSQL of node0 takes writes for 3 s
    When the DCS is thawed
    Then node0 answers 200 to "/primary" within 20 s
    And the postmasters are the remembered ones
    And no log says "demoted self"

  @store @servers
  Scenario: one server after the other is killed, also the one that leads
    Given the DCS has three servers
    And a running cluster of 2 members
    And the postmasters are remembered
    When server 0 of the DCS is killed
    Then PostgreSQL of node0 takes writes for 15 s
    When server 0 of the DCS is started
    Then PostgreSQL of node0 takes writes for 10 s
    When server 1 of the DCS is killed
    Then PostgreSQL of node0 takes writes for 15 s
    When server 1 of the DCS is started
    Then PostgreSQL of node0 takes writes for 10 s
    Then node0 leads within 20 s
    And the postmasters are the remembered ones

  # A primary of the reference loses its session of ZooKeeper, if it is with that server, and demotes itself.
  @store @servers @ours
  Scenario: a server that answers nothing more costs no primary
    Given the DCS has three servers
    And a running cluster of 2 members
    And the postmasters are remembered
    When server 2 of the DCS is frozen
    Then PostgreSQL of node0 takes writes for 15 s
    When server 2 of the DCS is thawed
    Then node0 leads within 20 s
    And the postmasters are the remembered ones

  @store @servers
  Scenario: the quorum is lost, and comes back
    Given the DCS has three servers
    And a running cluster of 2 members
    When server 1 of the DCS is killed
    Then PostgreSQL of node0 takes writes for 12 s
    When server 2 of the DCS is killed
    Then PostgreSQL of node0 takes no writes within 30 s
    When server 2 of the DCS is started
    Then some member leads within 60 s
    And every other member follows the leader within 60 s

  @store @servers
  Scenario: the quorum is lost, and failsafe mode keeps the primary
    Given the DCS has three servers
    And the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 2 members
    Then the DCS key "failsafe" matches "node0.*node1" within 20 s
    When server 1 of the DCS is frozen
    And server 2 of the DCS is frozen
    Then PostgreSQL of node0 takes writes for 25 s
    When server 1 of the DCS is thawed
    And server 2 of the DCS is thawed
    Then node0 leads within 40 s
    And no log says "demoted self"

  Scenario Outline: Consul's agent is <harm>, with three servers behind it
    Given the DCS is consul
    And the DCS has three servers
    And a running cluster of 2 members
    When Consul's agent is <harm>
    Then PostgreSQL of node0 takes no writes within 30 s
    When Consul's agent is <mended>
    Then some member leads within 60 s
    And every other member follows the leader within 60 s

    Examples:
      | harm    | mended  |
      | killed  | started |
      | frozen  | thawed  |
      | stopped | started |
