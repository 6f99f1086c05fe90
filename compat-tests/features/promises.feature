@pg @ours
Feature: what a lock and an acknowledged commit are worth
  Faults in which the reference breaks off, loses or acknowledges what it must not, and so did ours.

  Scenario: an orderly stop whose shutdown checkpoint takes longer than the lease
    Given a running cluster of 2 members
    When a process "checkpointer" of node0 is frozen within 5 s
    And node0 is sent SIGTERM
    # No client is left: the lease may end, and another leads while PostgreSQL of node0 is still stopping.
    Then node1 leads within 60 s
    And a process "checkpointer" of node0 is there within 1 s
    And node0's log does not say "stopping PostgreSQL immediately"
    And node0's log does not say "PostgreSQL stopped immediately"
    When a process "checkpointer" of node0 is thawed within 5 s
    Then PostgreSQL of node0 is down within 20 s
    And `pg_controldata LABDATA | grep 'Database cluster state: *shut down$'` succeeds in node0's directory

  Scenario Outline: etcd goes back to a state in which another led, <how>
    Given a running cluster of 2 members
    When a snapshot of etcd is taken
    And patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And node0 follows node1 within 40 s
    # What node1 acknowledges from here on is nowhere else.
    When a process "walsender" of node1 is frozen within 5 s
    And a row "kept" is written on node1
    And etcd is set back to the snapshot: <how>
    # Restored, it says node0.
    Then the DCS key "leader" matches "^node1$" within 90 s
    And node1 leads within 30 s
    And node0 follows node1 within 90 s
    # If node1 was not stopped meanwhile, it is the frozen one that holds the slot.
    When a process "walsender" of node1 is thawed within 20 s
    Then the row "kept" is on every member within 20 s
    And node0's log says "I did not win" within 1 s

    Examples:
      | how                          |
      | restored with a new token    |
      | restored with the same token |

  Scenario: after etcd went back, a standby that lags by what was known before does not lead
    Given a running cluster of 3 members
    When a snapshot of etcd is taken
    And a process "walreceiver" of node2 is frozen within 5 s
    And SQL "SELECT count(pg_logical_emit_message(false, 'x', repeat('x', 100000))) FROM generate_series(1, 30)" is run on node0
    And a row "kept" is written on node0
    Then the row "kept" is on node1 within 10 s
    # The position is published, and read by node2.
    And PostgreSQL of node0 takes writes for 6 s
    When the whole node of node0 is killed
    And the whole node of node1 is killed
    And etcd is set back to the snapshot: restored with a new token
    Then node2's log says "The DCS went back to an earlier state: it tells" within 60 s
    And node2's log says "My wal position exceeds maximum replication lag" within 60 s
    When node1 is started
    Then node1 leads within 60 s
    And the row "kept" is on node1 within 1 s
    When a process "walreceiver" of node2 is thawed within 5 s
    Then node2 follows node1 within 60 s
    And node2's log does not say "promoted self to leader"

  Scenario Outline: postgresql.auto.conf overrules synchronous_standby_names of a quorum, '<names>'
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: quorum}}
      """
    And a running cluster of 2 members
    Then the DCS key "sync" matches ".leader.:.node0.,.quorum.:0,.sync_standby.:.node1." within 30 s
    When SQL "ALTER SYSTEM SET synchronous_standby_names = '<names>'" is run on node1
    And the whole node of node0 is killed
    Then node1 leads within 40 s
    And the DCS key "sync" matches ".leader.:.node1.,.quorum.:0,.sync_standby.:null" within 1 s
    And node1's log says "look into postgresql.auto.conf" within 1 s
    When node0 is started
    Then node0 follows node1 within 60 s
    When SQL "ALTER SYSTEM RESET synchronous_standby_names" is run on node1
    And SQL "SELECT pg_reload_conf()" is run on node1
    Then the DCS key "sync" matches ".leader.:.node1.,.quorum.:0,.sync_standby.:.node0." within 40 s
    And SQL "SHOW synchronous_standby_names" gives "ANY 1 (node0)" on node1 within 20 s

    Examples:
      | names |
      |       |
      | ghost |

  Scenario: a candidate whose postgresql.conf cannot be written is not promoted
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: quorum}}
      """
    When node0 is made with
      """
      tags: {}
      """
    And node1 is made with
      """
      postgresql: {config_dir: LABNODE/conf}
      """
    And `mkdir conf` is run in node1's directory
    And node0 starts
    And node0 leads within 40 s
    And node1 starts
    Then the DCS key "sync" matches ".leader.:.node0.,.quorum.:0,.sync_standby.:.node1." within 40 s
    When `chmod 444 conf/* && chmod 555 conf` is run in node1's directory
    And a row "before" is written on node0
    And the whole node of node0 is killed
    # The lock is free after 20 s, and nobody else is there: promoted, it would acknowledge alone what /sync promises.
    Then PostgreSQL of node1 stays a standby for 40 s
    And node1's log says "Postponing promotion because synchronous_standby_names could not be set" within 20 s
    When `chmod 755 conf && chmod 644 conf/*` is run in node1's directory
    Then node1 leads within 60 s
    And SQL "SHOW synchronous_standby_names" gives "ANY 1 (node0)" on node1 within 20 s

  Scenario: a switchover right after the primary's crash loses nothing
    Given a running cluster of 2 members
    And a writer
    When the postmaster of node0 is killed
    Then node0 answers 200 to "/primary" within 20 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then some member leads within 40 s
    And every other member follows the leader within 60 s
    When the writer is stopped
    Then no acknowledged row is missing
