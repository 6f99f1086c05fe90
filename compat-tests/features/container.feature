Feature: the daemon as PID 1
  In a container the daemon is PID 1 of its PID namespace: nobody else reaps what dies, signals come to it, and whoever started
  the container hears of its exit code.

  Scenario: both reap orphans, pass signals on, and end as their daemon ends
    Given each daemon is PID 1 of processes of its own
    And a running cluster of the members
      | node0 | ours      |
      | node1 | reference |
    Then an orphan of node0 is reaped within 20 s
    And an orphan of node1 is reaped within 20 s
    When node0's configuration file is changed with
      """
      tags: {clonefrom: true}
      """
    And node0 is sent SIGHUP
    And node1's configuration file is changed with
      """
      tags: {nosync: true}
      """
    And node1 is sent SIGHUP
    Then the DCS key "members/node0" matches "clonefrom" within 30 s
    And the DCS key "members/node1" matches "nosync" within 30 s
    When node1 is sent SIGINT
    Then node1 ends with exit code 0 within 60 s
    And no process of node1 is left within 20 s
    When node0 is sent SIGTERM
    Then node0 ends with exit code 0 within 60 s
    And no process of node0 is left within 20 s
    When node0 starts
    Then node0 leads within 60 s
    And node0's log does not say "not properly shut down"

  # What is left of the namespace is killed with PID 1: no PostgreSQL outlives its daemon.
  @ours
  Scenario: a daemon that is killed ends its container, ours with an exit code that tells so
    Given each daemon is PID 1 of processes of its own
    And a running cluster of the members
      | node0 | ours      |
      | node1 | reference |
    When the process below PID 1 of node1 is killed
    Then node1 ends with exit code 0 within 30 s
    And no process of node1 is left within 20 s
    When the process below PID 1 of node0 is killed
    Then node0 ends with exit code 137 within 30 s
    And no process of node0 is left within 20 s
    When node0 starts
    Then node0 leads within 90 s
