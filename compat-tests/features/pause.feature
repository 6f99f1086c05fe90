Feature: pause
  Patroni watches, and leaves PostgreSQL to the operator.

  @ci
  Scenario: pause, stop, resume
    Given a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    Then its exit code is 0
    And the DCS key "config" matches ".pause.:true"
    And node0's log says "PAUSE: no action. I am (node0), the leader with the lock" within 10 s
    When the postmasters are remembered
    And node0 is shut down
    Then the postmasters are the remembered ones
    When node0 is started
    Then node0 leads within 30 s
    And the postmasters are the remembered ones
    When patronictl is called with "resume batman --wait"
    Then its exit code is 0
    And the DCS key "config" does not match "pause"
    And node0 leads within 10 s
    And node1 follows node0 within 10 s

  Scenario: nobody is promoted or started in pause
    Given a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    And the postmaster of node0 is killed
    Then the DCS key "leader" is absent within 30 s
    And node0's log says "PAUSE: postgres is not running" within 20 s
    And node1 answers 503 to "/primary"
    When patronictl is called with "resume batman"
    Then some member leads within 40 s
    And every other member follows the leader within 60 s
