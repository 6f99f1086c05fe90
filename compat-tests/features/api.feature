Feature: API
  Configuration, restarts and copies on request.

  @ci
  Scenario: dynamic configuration, pending restart, restart and reinitialize
    Given a running cluster of 2 members
    When patronictl is called with "edit-config batman --force --set postgresql.parameters.max_connections=70 --set postgresql.parameters.work_mem=8MB"
    Then its exit code is 0
    And SQL "SHOW work_mem" gives "8MB" on node1 within 15 s
    And GET "/patroni" of node0 has "pending_restart_reason.max_connections" = "{"old_value": "60", "new_value": "70"}" within 15 s
    And GET "/patroni" of node1 has "pending_restart" = "true" within 15 s
    And the DCS key "members/node0" matches "pending_restart" within 15 s
    When patronictl is called with "list batman"
    Then its output contains "Pending restart"
    When patronictl is called with "restart batman --force"
    Then its exit code is 0
    And SQL "SHOW max_connections" gives "70" on node0 within 20 s
    And SQL "SHOW max_connections" gives "70" on node1 within 20 s
    And the callbacks of node0 contain "on_restart primary batman" within 5 s
    When patronictl is called with "show-config batman"
    Then its output contains "max_connections: 70"
    When patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 0
    And node1 follows node0 within 30 s
    When node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"work_mem": null}}}
      """
    Then SQL "SHOW work_mem" gives "4MB" on node0 within 15 s
    When node0 is sent SIGHUP
    Then node0's log says "Reloading PostgreSQL configuration." within 15 s

  Scenario: requests that are refused
    Given a running cluster of 1 member
    Then the REST API answers
      | member | method | path          | body                                       | status |
      | node0  | PATCH  | /config       | no json                                    | 400    |
      | node0  | PUT    | /config       |                                            | 411    |
      | node0  | POST   | /switchover   | {"leader":"node9"}                         | 412    |
      | node0  | POST   | /switchover   | {}                                         | 400    |
      | node0  | POST   | /failover     | {}                                         | 400    |
      | node0  | POST   | /restart      | {"role":"nonsense"}                        | 400    |
      | node0  | POST   | /reinitialize | {}                                         | 503    |
      | node0  | DELETE | /restart      |                                            | 404    |
      | node0  | DELETE | /switchover   |                                            | 404    |
      | node0  | GET    | /nowhere      |                                            | 503    |
      | node0  | BREW   | /             |                                            | 501    |
    And node0 leads within 5 s

  Scenario: a password protects what changes something
    Given the members are configured with
      """
      restapi: {authentication: {username: admin, password: secret}}
      """
    And a running cluster of 1 member
    Then the REST API answers
      | member | method | path     | body | status |
      | node0  | GET    | /patroni |      | 200    |
      | node0  | POST   | /reload  |      | 401    |
      | node0  | PATCH  | /config  | {}   | 401    |

  # (The reference's threads wait as long as PostgreSQL hangs.)
  @ours
  Scenario: a PostgreSQL or a DCS that hangs does not silence the REST API
    Given a running cluster of 2 members
    When PostgreSQL of node1 is frozen
    Then node1 answers 200 to "/liveness"
    And node1 answers 503 to "/health" within 10 s
    And node1 answers 503 to "/replica"
    And node1 answers 200 to "/liveness"
    When PostgreSQL of node1 is thawed
    Then node1 answers 200 to "/replica" within 20 s
    When etcd is frozen
    Then node0 answers 200 to "/liveness"
    And node0 answers 200 to "/primary"
    And node1 answers 200 to "/replica"
    And node1 answers 200 to "/liveness"
    When etcd is thawed
    Then node0 leads within 30 s
    And node0 answers 200 to "/primary" within 20 s
