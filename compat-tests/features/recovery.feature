@pg
Feature: recovery
  What dies comes back, by itself.

  @ci @store
  Scenario: the leader's node is killed and comes back
    Given a running cluster of 3 members
    When a row "before" is written on node0
    And the row "before" is on every member within 10 s
    And the whole node of node0 is killed
    Then another member than node0 leads within 40 s
    And every other member follows the leader within 30 s
    When a row "after" is written on the leader
    And node0 is started
    Then node0 follows the leader within 60 s
    And the row "before" is on every member within 10 s
    And the row "after" is on every member within 10 s
    And the DCS key "history" matches "^\[\[1,[0-9]+,.no recovery target specified.,.[-0-9T:.+]+.,.node[12].\]\]$"

  @ci @store
  Scenario: PostgreSQL crashes under the leader and is started again
    Given a running cluster of 2 members
    When a row "kept" is written on node0
    And the postmaster of node0 is killed
    Then node0's log says "starting primary after failure" within 30 s
    And node0 leads within 40 s
    And the row "kept" is on every member within 20 s
    And node0's timeline is 1
    When the postmaster of node1 is killed
    Then node1's log says "starting as a secondary" within 30 s
    And node1 follows node0 within 40 s

  @ci @store
  Scenario: a daemon takes over the PostgreSQL that runs
    Given a running cluster of 2 members
    When the postmasters are remembered
    And the daemon of node0 is killed
    And the daemon of node1 is killed
    And node0 is started
    And node1 is started
    Then node0 leads within 30 s
    And node1 follows node0 within 30 s
    And the postmasters are the remembered ones

  @ci @store
  Scenario: an orderly shutdown gives the lock away at once
    Given a running cluster of 2 members
    When node0 is shut down
    Then node0's exit code was 0
    And PostgreSQL of node0 is down
    And node1 leads within 6 s
    When node0 is started
    Then node0 follows node1 within 30 s
    And node0's log does not say "running pg_rewind"

  Scenario: a cluster that was shut down comes up again
    Given a running cluster of 2 members
    When a row "kept" is written on node0
    And the row "kept" is on every member within 10 s
    And node1 is shut down
    And node0 is shut down
    Then the DCS key "leader" is absent within 5 s
    When node0 is started
    And node1 is started
    Then some member leads within 30 s
    And every other member follows the leader within 30 s
    And the row "kept" is on every member within 10 s

  @ci @store
  Scenario: etcd is killed
    Given a running cluster of 2 members
    When etcd is killed
    Then PostgreSQL of node0 takes no writes within 20 s
    When etcd is started
    Then some member leads within 40 s
    And every other member follows the leader within 40 s

  @ci @store
  Scenario: etcd falls silent
    Given a running cluster of 2 members
    When etcd is frozen
    Then PostgreSQL of node0 takes no writes within 20 s
    When etcd is thawed
    Then some member leads within 40 s
    And every other member follows the leader within 40 s

  Scenario: the leader's node freezes, and finds itself deposed
    Given a running cluster of 3 members
    When the whole node of node0 is frozen
    Then another member than node0 leads within 40 s
    When the whole node of node0 is thawed
    Then PostgreSQL of node0 takes no writes within 10 s
    And node0 follows the leader within 60 s

  Scenario: a second node with a name that is taken
    Given a running cluster of 1 member
    When a second node0 is started
    Then that node ends with exit code 1 and says "Can't start; there is already a node named 'node0' running"
    And node0 leads within 5 s

  Scenario: a data directory of another cluster
    Given a running cluster of 1 member
    And a member of another cluster
    When that member is moved to this cluster
    Then it ends with exit code 1 and says "belongs to a different cluster"

  Scenario: a former primary that was killed recovers alone before it is rewound
    Given a running cluster of 2 members
    When the whole node of node0 is killed
    Then node1 leads within 40 s
    When a row "won" is written on node1
    And node0 is started
    Then node0's log says "doing crash recovery in a single user mode" within 30 s
    And node0 follows node1 within 60 s
    And the row "won" is on every member within 10 s

  Scenario: with primary_start_timeout 0 a crash is a failover
    Given the members are configured with
      """
      bootstrap: {dcs: {primary_start_timeout: 0}}
      """
    And a running cluster of 2 members
    When a row "kept" is written on node0
    Then the row "kept" is on every member within 10 s
    When the postmaster of node0 is killed
    Then node1 leads within 20 s
    And node0's log says "Primary crashed. Failing over."
    And node0 follows node1 within 60 s
    And the row "kept" is on every member within 10 s

  Scenario: a primary that cannot be started again gives way
    When node0 is made with
      """
      postgresql: {bin_dir: LABNODE/bin}
      """
    And `mkdir LABNODE/bin && ln -s LABBIN/* LABNODE/bin` is run in node0's directory
    And node0 starts
    Then node0 leads within 60 s
    When node1 is added with
      """
      tags: {}
      """
    Then node1 follows node0 within 40 s
    When a row "kept" is written on node0
    Then the row "kept" is on every member within 10 s
    When `rm LABNODE/bin/postgres; printf '#!/bin/sh\ncase "$*" in *config-file*--listen*) exit 1;; esac\nexec LABBIN/postgres "$@"\n' >LABNODE/bin/postgres; chmod 755 LABNODE/bin/postgres` is run in node0's directory
    And the postmaster of node0 is killed
    Then node1 leads within 40 s
    And node0's log says "removed leader key after trying and failing to start postgres"
    And the callbacks of node0 contain "on_role_change demoted batman" within 5 s
    When `rm LABNODE/bin/postgres; ln -s LABBIN/postgres LABNODE/bin/postgres` is run in node0's directory
    Then node0 follows node1 within 60 s
    And the row "kept" is on every member within 10 s
