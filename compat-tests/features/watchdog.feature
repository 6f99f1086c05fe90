Feature: watchdog
  A device that resets the node unless its daemon proves that it works. Here a pipe stands for it.

  @ci
  Scenario: armed by who leads, closed by who does not
    Given the members are configured with
      """
      watchdog: {mode: required, driver: testing, device: LABDATA.watchdog}
      """
    And a running cluster of 2 members with watchdogs
    Then node0's watchdog got "Ctimeout=15" within 10 s
    And node0's watchdog is fed within 10 s
    And node1's watchdog is closed within 1 s
    And node0's log says "Watchdog test harness at"
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0's watchdog is closed within 5 s
    And node1's watchdog got "Ctimeout=15" within 10 s
    And node1's watchdog is fed within 10 s
    When patronictl is called with "pause batman --wait"
    Then node1's watchdog is closed within 10 s
    When patronictl is called with "resume batman --wait"
    Then node1's watchdog is armed within 10 s
    And node1's watchdog is fed within 10 s
    When node1 is configured by PATCH with
      """
      {"ttl": 30}
      """
    Then node1's watchdog got "Ctimeout=25" within 20 s
    When node1 is shut down
    Then node1's watchdog is closed within 5 s
    And node0 leads within 20 s

  Scenario: without a DCS the leader demotes and closes it
    Given the members are configured with
      """
      watchdog: {mode: required, driver: testing, device: LABDATA.watchdog}
      """
    And a running cluster of 1 member with watchdogs
    When etcd is killed
    Then PostgreSQL of node0 takes no writes within 20 s
    And node0's watchdog is closed within 10 s
    When etcd is started
    Then node0 leads within 40 s
    And node0's watchdog is armed within 10 s

  Scenario: in failsafe mode it is fed
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      watchdog: {mode: required, driver: testing, device: LABDATA.watchdog}
      """
    And a running cluster of 2 members with watchdogs
    Then the DCS key "failsafe" matches "node1" within 20 s
    When etcd is killed
    Then node0's log says "continue to run as a leader because failsafe mode is enabled" within 20 s
    And node0's watchdog is fed within 10 s
    And PostgreSQL of node0 takes writes for 15 s

  Scenario: a pre_promote script that refuses leaves no armed watchdog behind
    Given the members are configured with
      """
      watchdog: {mode: automatic, driver: testing, device: LABDATA.watchdog}
      """
    And a running cluster of 2 members with watchdogs
    When node1's configuration is changed by
      """
      postgresql: {pre_promote: /bin/false}
      """
    And node1 is sent SIGHUP
    And the whole node of node0 is killed
    Then node1's log says "Promotion cancelled because the pre-promote script failed" within 40 s
    And node1's log says "Releasing the leader key voluntarily because the pre-promote script failed"

  @ours
  Scenario: a pre_promote script that refuses: the watchdog is closed
    Given the members are configured with
      """
      watchdog: {mode: automatic, driver: testing, device: LABDATA.watchdog}
      """
    And a running cluster of 2 members with watchdogs
    When node1's configuration is changed by
      """
      postgresql: {pre_promote: /bin/false}
      """
    And node1 is sent SIGHUP
    And the whole node of node0 is killed
    Then node1's log says "Promotion cancelled because the pre-promote script failed" within 40 s
    And node1's watchdog is closed within 3 s

  Scenario: a node that requires one that cannot be used does not lead
    Given a running cluster of 2 members where node1 has
      """
      watchdog: {mode: required, driver: testing, device: LABDATA.watchdog}
      """
    Then GET "/patroni" of node1 has "watchdog_failed" = "true" within 5 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its output contains "no good candidates have been found"
    And node0 leads within 5 s
    When the whole node of node0 is killed
    Then node1's log says "Watchdog device is not usable" within 40 s
    And node1's log says "following a different leader because i am not the healthiest node" within 10 s
    When node1 gets a watchdog
    Then node1 leads within 20 s
    And node1's watchdog is fed within 10 s
    And GET "/patroni" of node1 has "watchdog_failed" = "null" within 5 s

  Scenario: a leader that loses its required watchdog steps down
    Given a running cluster of 2 members
    When node0's configuration is changed by
      """
      watchdog: {mode: required, driver: testing, device: LABDATA/no/such/watchdog}
      """
    And node0 is sent SIGHUP
    Then node0's log says "Configuration requires watchdog, but watchdog could not be configured." within 20 s
    And node1 leads within 40 s
    And node0 follows node1 within 40 s

  Scenario: no cluster is made without a required watchdog
    Given a member that is alone with
      """
      watchdog: {mode: required, driver: testing, device: LABDATA/no/such/watchdog}
      """
    Then node0's log says "Cancelling bootstrap because watchdog activation failed" within 40 s
    And node0 has ended within 20 s
    And the DCS key "initialize" is absent within 5 s
    And the DCS key "leader" is absent within 1 s

  Scenario: a leader that hangs does not feed it
    Given the members are configured with
      """
      watchdog: {mode: required, driver: testing, device: LABDATA.watchdog}
      """
    And a running cluster of 2 members with watchdogs
    Then node0's watchdog is fed within 10 s
    When the daemon of node0 is frozen
    Then node0's watchdog is not fed for 15 s
    And node1 leads within 40 s
    And node1's watchdog is fed within 10 s
