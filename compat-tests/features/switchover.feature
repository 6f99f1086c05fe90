Feature: switchover
  The leader changes when somebody asks for it.

  @ci @store
  Scenario: there and back with patronictl
    Given a running cluster of 3 members
    And a writer
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And its output contains "Successfully switched over to "node1""
    And node1 leads within 20 s
    And every other member follows the leader within 30 s
    When patronictl is called with "switchover batman --leader node1 --candidate node0 --force"
    Then its exit code is 0
    And node0 leads within 20 s
    And every other member follows the leader within 30 s
    And no log says "running pg_rewind"
    When the writer is stopped
    Then no acknowledged row is missing
    And the callbacks of node1 contain "on_role_change primary batman" within 5 s
    And the callbacks of node0 contain "on_role_change replica batman" within 5 s

  Scenario: asked for by REST, for later
    Given a running cluster of 2 members
    When a switchover from node0 to node1 is posted for 5 s from now
    Then the DCS key "failover" matches "scheduled_at" within 2 s
    And node1 leads within 30 s
    And node0 follows node1 within 30 s
    And the DCS key "failover" matches "^\{\}$" within 10 s

  Scenario: to a member that must not lead
    Given a running cluster of 2 members where node1 has
      """
      tags: {nofailover: true}
      """
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 1
    And its output contains "No candidates found to switchover to"
    And node0 leads within 5 s

  @store
  Scenario: failover to a chosen member
    Given a running cluster of 3 members
    When patronictl is called with "failover batman --candidate node2 --force"
    Then its exit code is 0
    And node2 leads within 20 s
    And every other member follows the leader within 30 s

  Scenario: a scheduled restart
    Given a running cluster of 2 members
    When the postmasters are remembered
    And a restart of node0 is posted for 5 s from now
    Then the DCS key "members/node0" matches "scheduled_restart" within 5 s
    And node0's log says "restart initiated" within 30 s
    And PostgreSQL of node0 was restarted within 20 s
    And the DCS key "members/node0" does not say "scheduled_restart" within 10 s
    And node0 leads within 20 s
    When a restart of node1 is posted for 5 s from now
    Then PostgreSQL of node1 was restarted within 40 s
    And node1 follows node0 within 20 s

  Scenario: a switchover that has come too late, and one whose leader is another
    Given a running cluster of 2 members
    When the DCS key "failover" is set to
      """
      {"leader": "node0", "member": "node1", "scheduled_at": "2020-01-01T00:00:00+00:00"}
      """
    Then node0's log says "Found a stale switchover value, cleaning up: 2020-01-01" within 20 s
    And the DCS key "failover" matches "^\{\}$" within 10 s
    When the DCS key "failover" is set to
      """
      {"leader": "node7", "member": "node1"}
      """
    Then node0's log says "switchover: leader name does not match: node7 != node0" within 20 s
    And the DCS key "failover" matches "^\{\}$" within 10 s
    And node0 leads within 5 s

  Scenario: restarts that wait for their conditions
    Given a running cluster of 2 members
    When the postmasters are remembered
    And node0 is sent a request "POST /restart" with
      """
      {"role": "replica"}
      """
    Then its status is 503 and its text contains "restart conditions are not satisfied"
    When node1 is sent a request "POST /restart" with
      """
      {"restart_pending": true}
      """
    Then its status is 503 and its text contains "restart conditions are not satisfied"
    And the postmasters are the remembered ones
    When node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"max_connections": 70}}}
      """
    Then GET "/patroni" of node1 has "pending_restart" = "true" within 15 s
    And GET "/patroni" of node0 has "pending_restart" = "true" within 15 s
    When node1 is sent a request "POST /restart" with
      """
      {"restart_pending": true, "role": "replica"}
      """
    Then its status is 200 and its text contains "restarted successfully"
    And SQL "SHOW max_connections" gives "70" on node1 within 20 s
    When node0 is sent a request "POST /restart" with
      """
      {"restart_pending": true, "role": "primary"}
      """
    Then its status is 200 and its text contains "restarted successfully"
    And SQL "SHOW max_connections" gives "70" on node0 within 20 s
    And node0 leads within 20 s
    When node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"max_connections": 50}}}
      """
    Then GET "/patroni" of node1 has "pending_restart" = "true" within 15 s
    # A standby may not have less than its primary: it waits for it.
    When node1 is sent a request "POST /restart" with
      """
      {}
      """
    Then its status is 200 and its text contains "restarted successfully"
    And SQL "SHOW max_connections" gives "70" on node1 within 20 s
    And GET "/patroni" of node1 has "pending_restart" = "true" within 15 s

  Scenario: a switchover while a third member is silent
    Given a running cluster of 3 members
    When the whole node of node2 is frozen
    And patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    # PostgreSQL itself waits for the silent one before it ends.
    When the whole node of node2 is thawed
    Then every other member follows the leader within 60 s
