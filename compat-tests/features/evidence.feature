Feature: a lock goes on proof
  That no postmaster is seen does not mean that nobody writes: the leader lock is given up when the end of PostgreSQL is
  proven. (Of the reference the first keeps the lock, too; the second does not, and the third ends its cycle.)

  @ci @ours
  Scenario: the wall clock was set, and the daemon is started again
    Given a running cluster of 2 members
    And a writer
    When the postmasters are remembered
    And line 3 of node0's postmaster.pid is changed by -10
    And the daemon of node0 is killed
    And node0 is started
    Then node0 leads within 15 s
    And PostgreSQL of node0 takes writes for 8 s
    And the postmasters are the remembered ones
    And the DCS key "leader" matches "^node0$"
    When the writer is stopped
    Then no acknowledged row is missing
    And node0's log does not say "is not postmaster"
    And node0's log does not say "pre-existing shared memory"

  # Backwards, and for longer than a lease: the pid file is younger than its process, and nobody else may take over.
  @ours
  Scenario: the wall clock was set back, and the daemon is started again
    Given a running cluster of 2 members
    And a writer
    When the postmasters are remembered
    And line 3 of node0's postmaster.pid is changed by 3600
    And the daemon of node0 is killed
    And node0 is started
    Then PostgreSQL of node0 takes writes for 28 s
    And the DCS key "leader" matches "^node0$"
    And the postmasters are the remembered ones
    When the writer is stopped
    Then no acknowledged row is missing

  @ours
  Scenario: somebody has removed the pid file, and the daemon is started again
    Given a running cluster of 2 members
    When the daemon of node0 is killed
    And node0's postmaster.pid is removed
    And node0 is started
    Then node0 leads within 15 s
    And the DCS key "leader" matches "^node0$"
    And node0's log does not say "starting primary after failure"

  @ci @ours
  Scenario: backends outlive their postmaster, and go on committing
    Given a running cluster of 2 members
    And a client of node0 that never waits
    When the postmaster of node0 is killed
    Then the client that never waits is cut off within 15 s
    And node0's log says "processes of it have not: sending SIGKILL"
    And node0 leads within 30 s
    And all that it was told is on the leader
    And node0's log does not say "removed leader key"

  # `bin_name`, a wrapper of a distribution, a program that was moved aside under its server.
  @ours
  Scenario: a server whose program is called otherwise
    Given a script "server.sh"
      """
      #!/bin/sh
      test -e LABROOT/mypostgres || cp LABBIN/postgres LABROOT/mypostgres
      exec LABROOT/mypostgres "$@"
      """
    And a running cluster of 2 members where node0 has
      """
      postgresql: {bin_name: {postgres: LABROOT/server.sh}}
      """
    When the postmasters are remembered
    And line 3 of node0's postmaster.pid is changed by -10
    And the daemon of node0 is killed
    And node0 is started
    Then node0 leads within 15 s
    And the postmasters are the remembered ones
    Given a client of node0 that never waits
    When the postmaster of node0 is killed
    Then the client that never waits is cut off within 15 s
    And node0's log says "processes of it have not: sending SIGKILL"
    And node0 leads within 30 s
    And all that it was told is on the leader
    And node0's log does not say "removed leader key"
    And node0's log does not say "is not postmaster"

  @ours
  Scenario: many of them
    Given a running cluster of 2 members
    And 4 clients of node0 that never wait
    When the postmaster of node0 is killed
    Then the clients that never wait are cut off within 15 s
    And node0 leads within 30 s
    And all that they were told is on the leader
    And node0's log does not say "removed leader key"

  @ours
  Scenario: backends outlive their postmaster and their daemon: the guardian has the last word
    Given a running cluster of 2 members
    And a client of node0 that never waits
    When the daemon of node0 is killed
    And the postmaster of node0 is killed
    # At once: the next daemon may be one that gives the lock away when its start fails beside them.
    Then the client that never waits is cut off within 6 s
    And node0's log says "The daemon and the postmaster have died: guardian: PostgreSQL" within 5 s
    And node1 leads within 20 s

  @ours
  Scenario: the leader's daemon may open nothing more
    Given a running cluster of 2 members
    And a writer
    When the postmasters are remembered
    And the daemon of node0 may open nothing more
    Then PostgreSQL of node0 takes writes for 28 s
    And the DCS key "leader" matches "^node0$"
    When the daemon of node0 may open files again
    Then node0 leads within 10 s
    When the writer is stopped
    Then no acknowledged row is missing
    And the postmasters are the remembered ones

  # It wins the race over connections that it has, and cannot even execute pg_ctl.
  @ours
  Scenario: the preferred candidate's daemon may open nothing more
    Given a running cluster of 1 member
    When node1 is added with
      """
      tags: {failover_priority: 2}
      """
    And node2 is added with
      """
      tags: {failover_priority: 1}
      """
    Then node1 follows node0 within 60 s
    And node2 follows node0 within 60 s
    When the daemon of node1 may open nothing more
    And the whole node of node0 is killed
    Then node2 leads within 90 s
    When the daemon of node1 may open files again
    Then node1 follows node2 within 60 s

  @ours
  Scenario: a fence needs no descriptor
    Given the guardian is switched off
    And a running cluster of 2 members
    When the daemon of node0 may open nothing more
    And etcd is frozen
    Then PostgreSQL of node0 is down within 25 s
    When etcd is thawed
    And the daemon of node0 may open files again
    Then some member leads within 40 s
    And every other member follows the leader within 60 s
