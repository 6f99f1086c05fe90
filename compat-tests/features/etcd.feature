Feature: what happens to etcd
  Administrators restore it, change its passwords, and its nodes hang. The cluster goes on, or comes back by itself.

  # Whoever is written for the last time by an etcd of later terms would never believe this one again (so in the
  # reference, until it is restarted).
  @ours
  Scenario Outline: etcd is set back while a leader runs, <how>
    Given a running cluster of 2 members
    # The raft terms of what is restored are to lie behind those that the members have seen.
    When etcd is killed
    And etcd is started
    Then node0 leads within 60 s
    When a snapshot of etcd is taken
    And etcd is killed
    And etcd is started
    Then node0 leads within 60 s
    When a row "before" is written on node0
    And node0 is configured by PATCH with
      """
      {"maximum_lag_on_failover": 2000000}
      """
    And etcd is set back to the snapshot: <how>
    Then node0 leads within 60 s
    And node0 answers 200 to "/primary" within 60 s
    And node1 follows node0 within 60 s
    When a row "after" is written on node0
    Then the row "before" is on every member within 10 s
    And the row "after" is on every member within 10 s
    # Who still believes the terms of before neither gives a lock away nor takes one.
    When node0 is shut down
    Then node1 leads within 60 s
    And the row "after" is on node1 within 10 s
    And node0's log says "The etcd cluster has gone back"

    @ci
    Examples:
      | how                          |
      | restored with the same token |

    Examples:
      | how                               |
      | restored with a new token         |
      | its data with --force-new-cluster |

  # The reference demotes as well when etcd is told first: after retry_timeout.
  @ours @ci
  Scenario: the password of etcd is changed
    Given etcd has users, and patroni's password is "secret"
    And the members are configured with
      """
      etcd3: {username: patroni, password: secret}
      """
    And a running cluster of 1 member
    And the postmasters are remembered
    # A typing error in the file, taken back.
    When node0's configuration file is changed with
      """
      etcd3: {password: typo}
      """
    And node0 is sent SIGHUP
    Then PostgreSQL of node0 takes writes for 5 s
    # In the right order: the file first.
    When node0's configuration file is changed with
      """
      etcd3: {password: new}
      """
    And node0 is sent SIGHUP
    Then PostgreSQL of node0 takes writes for 3 s
    When patroni's password in etcd is changed to "new"
    Then PostgreSQL of node0 takes writes for 3 s
    # etcd first, and the file a moment later: while a cycle asks in vain.
    When patroni's password in etcd is changed to "newer"
    Then PostgreSQL of node0 takes writes for 2 s
    When node0's configuration file is changed with
      """
      etcd3: {password: newer}
      """
    And node0 is sent SIGHUP
    Then PostgreSQL of node0 takes writes for 8 s
    And node0 leads within 5 s
    And the postmasters are the remembered ones
    And node0's log does not say "demot"

  # The HA loop hangs on the node that it talks to for a few seconds; the lock keeper talks to another one, or leaves it.
  @ours
  Scenario: a node of etcd is silent, at the timings of a configuration that says nothing
    Given an etcd of three nodes
    And the members are configured with
      """
      bootstrap: {dcs: {ttl: 30, loop_wait: 10, retry_timeout: 10}}
      log: {level: DEBUG}
      """
    And a running cluster of 1 member
    And the postmasters are remembered
    When etcd's node 0 is frozen
    Then PostgreSQL of node0 takes writes for 25 s
    When etcd's node 0 is thawed
    And etcd's node 1 is frozen
    Then PostgreSQL of node0 takes writes for 25 s
    When etcd's node 1 is thawed
    And etcd's node 2 is frozen
    Then PostgreSQL of node0 takes writes for 25 s
    When etcd's node 2 is thawed
    Then node0 leads within 20 s
    And the postmasters are the remembered ones
    And node0's log does not say "lease renewal failed"

  # Cycles that ask the store for nothing as long as nothing happens: what happens is seen at once, and its silence in time.
  @ours
  Scenario: short cycles with a long ttl
    Given the members are configured with
      """
      bootstrap: {dcs: {ttl: 30, loop_wait: 1, retry_timeout: 10}}
      """
    And a running cluster of 2 members
    Then PostgreSQL of node0 takes writes for 8 s
    When our patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 10 s
    And node0 follows node1 within 20 s
    When our patronictl is called with "pause batman --wait"
    Then its exit code is 0
    When our patronictl is called with "resume batman --wait"
    Then its exit code is 0
    When the daemon of node1 is killed
    And the postmaster of node1 is killed
    Then node0 leads within 8 s
    When node1 is started
    Then node1 follows node0 within 60 s
    When the DCS is frozen
    Then PostgreSQL of node0 takes writes for 8 s
    And PostgreSQL of node0 takes no writes within 22 s
    When the DCS is thawed
    Then some member leads within 40 s
    And every other member follows the leader within 60 s
