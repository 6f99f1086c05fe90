Feature: pause
  Patroni watches, and leaves PostgreSQL to the operator.

  @ci @store
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

  Scenario: in pause, failover and switchover need a candidate
    Given a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    And node0 is sent a request "POST /switchover" with
      """
      {"leader": "node0"}
      """
    Then its status is 400 and its text contains "Switchover is possible only to a specific candidate in a paused state"
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 30 s
    And node0 follows node1 within 40 s
    And the DCS key "config" matches ".pause.:true"

  Scenario: in pause, the leader's PostgreSQL is stopped and started manually
    Given a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    And PostgreSQL of node0 is stopped manually
    Then node0's log says "PAUSE: postgres is not running" within 30 s
    And the DCS key "leader" is absent within 30 s
    When PostgreSQL of node0 is started manually
    Then node0 leads within 30 s
    And node0's log says "PAUSE: acquired session lock as a leader" within 10 s
    And the DCS key "members/node0" matches ".state.:.running." within 10 s
    When patronictl is called with "resume batman --wait"
    Then node0 leads within 10 s
    And node1 follows node0 within 30 s

  Scenario: in pause, nothing scheduled runs, but restart and reinitialize do
    Given a running cluster of 2 members
    When a switchover from node0 to node1 is posted for 12 s from now
    And patronictl is called with "pause batman --wait"
    And patronictl is called with "restart batman node1 --force"
    Then its output contains "Success: restart on member node1"
    When patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 0
    And PostgreSQL of node0 takes writes for 16 s
    And node0 leads within 5 s

  Scenario: in pause, a restart starts what was stopped, and nothing can be scheduled
    Given a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    And the postmaster of node1 is killed
    Then node1's log says "PAUSE: postgres is not running" within 20 s
    And node1 answers 503 to "/replica" within 5 s
    When patronictl is called with "restart batman node1 --force"
    Then its exit code is 0
    And its output contains "Success: restart on member node1"
    And node1 follows node0 within 30 s
    And node1 answers 200 to "/replica" within 10 s
    When node0 is sent a request "POST /switchover" with
      """
      {"leader": "node0", "candidate": "node1", "scheduled_at": "2099-01-01T00:00:00+00:00"}
      """
    Then its status is 400 and its text contains "Can't schedule switchover in the paused state"
    When node1 is sent a request "POST /restart" with
      """
      {"schedule": "2099-01-01T00:00:00+00:00"}
      """
    Then its status is 500 and its text contains "Can't schedule restart in the paused state"
    When node0 is sent a request "POST /switchover" with
      """
      {"leader": "node0", "candidate": "node1"}
      """
    Then its status is 200 and its text contains "Successfully switched over to "node1""
    And node1 leads within 20 s
    And node0 follows node1 within 60 s

  Scenario: the leader's node dies in pause, and a replica takes over when it ends
    Given a running cluster of 2 members
    When a row "kept" is written on node0
    Then the row "kept" is on every member within 10 s
    When patronictl is called with "pause batman --wait"
    And the whole node of node0 is killed
    Then the DCS key "leader" is absent within 40 s
    And node1's log says "PAUSE: no action. I am (node1)" within 10 s
    And node1 answers 503 to "/primary"
    When patronictl is called with "resume batman"
    Then node1 leads within 30 s
    And the row "kept" is on node1 within 5 s
