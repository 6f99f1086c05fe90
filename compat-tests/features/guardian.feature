Feature: the guardian
  A daemon that is killed alone, or hangs, leaves no primary that writes past its lease. (The reference leaves one
  forever, so most of this is ours alone: run it with FLEET=ours.)

  @ci @ours
  Scenario: the leader's daemon is killed, and nothing else
    Given a running cluster of 2 members
    When the daemon of node0 is killed
    Then PostgreSQL of node0 takes writes for 10 s
    And PostgreSQL of node0 is down within 15 s
    And node0's log says "Leader lock runs out and the daemon has died: guardian: PostgreSQL" within 2 s
    And no guardian of node0 is left within 2 s
    And node1 leads within 15 s
    When node0 is started
    Then node0 follows node1 within 60 s

  @ours
  Scenario: the leader's daemon is stopped, and comes to itself as the standby of another
    Given a running cluster of 2 members
    When the daemon of node0 is frozen
    Then PostgreSQL of node0 is down within 25 s
    And node0's log says "Leader lock runs out and the daemon hangs: guardian: PostgreSQL" within 2 s
    And node1 leads within 15 s
    When the daemon of node0 is thawed
    Then node0 follows node1 within 60 s

  @ours
  Scenario: a daemon that comes back in time finds its primary, and relieves the guardian
    Given a running cluster of 2 members
    When the postmasters are remembered
    And the daemon of node0 is killed
    Then PostgreSQL of node0 takes writes for 5 s
    When node0 is started
    Then node0 leads within 14 s
    And node0's log says "The guardian of an earlier daemon" within 5 s
    And PostgreSQL of node0 takes writes for 25 s
    And the postmasters are the remembered ones
    And node0's log does not say "guardian: PostgreSQL"

  @ours
  Scenario: in pause nothing happens, and nobody is left behind
    Given a running cluster of 2 members
    When our patronictl is called with "pause batman --wait"
    And the postmasters are remembered
    And the daemon of node0 is killed
    Then no guardian of node0 is left within 5 s
    And PostgreSQL of node0 takes writes for 25 s
    When node1 is shut down
    Then no guardian of node1 is left within 5 s
    And the postmasters are the remembered ones

  @ours
  Scenario: the guardian is killed, and another takes its place
    Given a running cluster of 2 members
    When the guardian of node0 is killed
    Then node0's log says "The guardian" within 5 s
    And node0 has one guardian within 10 s
    When the daemon of node0 is killed
    Then PostgreSQL of node0 is down within 25 s
    And node1 leads within 15 s

  @ours
  Scenario: an orderly end leaves no guardian
    Given a running cluster of 2 members
    When node0 is shut down
    Then no guardian of node0 is left within 2 s
    And node1 leads within 10 s
    And node1 has one guardian within 2 s

  # Nobody has to wait for the lease (20 s here) where nothing is left that could write or come back.
  @ours
  Scenario: daemon and postmaster are killed, and nobody starts them again
    Given a running cluster of 2 members
    And a client of node0 that never waits
    When the daemon of node0 is killed
    And the postmaster of node0 is killed
    Then node1 leads within 8 s
    And the client that never waits is cut off within 1 s
    And PostgreSQL of node1 takes writes for 2 s
    And node0's log says "releaser: the leader lock is given up" within 2 s
    And no guardian of node0 is left within 2 s
    When node0 is started
    Then node0 follows node1 within 60 s

  @ours
  Scenario: daemon and postmaster are killed, and the daemon is started again at once
    Given a running cluster of 2 members
    When the daemon of node0 is killed
    And the postmaster of node0 is killed
    And node0 is started
    Then node0 leads within 15 s
    And PostgreSQL of node0 takes writes for 8 s
    And node0's log says "does not give the leader lock up"
    And node0's log does not say "releaser:"

  @ours
  Scenario: in a pause the lock of who has died stays
    Given a running cluster of 2 members
    When our patronictl is called with "pause batman --wait"
    And the daemon of node0 is killed
    And the postmaster of node0 is killed
    Then PostgreSQL of node1 stays a standby for 8 s
    And the DCS key "leader" matches "^node0$"
    And no guardian of node0 is left within 2 s

  Scenario: without a guardian the orphan is what it is with the reference
    Given the guardian is switched off
    And a running cluster of 2 members
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    And PostgreSQL of node0 takes writes for 10 s
    When node0 is started
    Then node0 follows node1 within 60 s
