Feature: basic replication
  A cluster comes up from nothing, its members replicate, and they heal after the usual failures.

  @ci @store
  Scenario: bootstrap, replicas and what REST and DCS say
    Given a running cluster of 3 members
    Then the DCS key "initialize" matches "^[0-9]{19}$"
    And the DCS key "config" matches "^\{.ttl.:20,.loop_wait.:2,.retry_timeout.:5,"
    And the REST API answers
      | member | path                        | status |
      | node0  | /                           | 200    |
      | node0  | /primary                    | 200    |
      | node0  | /leader                     | 200    |
      | node0  | /read-write                 | 200    |
      | node0  | /replica                    | 503    |
      | node0  | /read-only                  | 200    |
      | node0  | /standby-leader             | 503    |
      | node0  | /health                     | 200    |
      | node0  | /liveness                   | 200    |
      | node0  | /readiness                  | 200    |
      | node0  | /async                      | 503    |
      | node1  | /                           | 503    |
      | node1  | /primary                    | 503    |
      | node1  | /replica                    | 200    |
      | node1  | /replica?lag=1MB            | 200    |
      | node1  | /replica?replication_state=streaming | 200 |
      | node1  | /read-only                  | 200    |
      | node1  | /read-write                 | 503    |
      | node1  | /sync                       | 503    |
      | node1  | /async                      | 200    |
      | node1  | /health                     | 200    |
      | node1  | /liveness                   | 200    |
      | node1  | /readiness                  | 200    |
      | node1  | /no-such-thing              | 503    |
    And the members' keys have leases
    When a row "first" is written on node0
    Then the row "first" is on every member within 10 s
    And node0 has the replication slots "node1,node2" within 10 s
    And the callbacks of node0 are "on_start primary batman" within 5 s
    And the callbacks of node1 are "on_start replica batman" within 5 s
    And node0's log says "initialized a new cluster"
    And node0's log says "no action. I am (node0), the leader with the lock" within 10 s
    And node1's log says "no action. I am (node1), a secondary, and following a leader (node0)" within 10 s

  Scenario: synchronous replication keeps a synchronous standby
    Given a running cluster of 3 members
    When node0 is configured by PATCH with
      """
      {"synchronous_mode": true}
      """
    Then the DCS key "sync" matches "^\{.leader.:.node0.,.quorum.:0,.sync_standby.:.node[12].\}$" within 20 s
    And one of the replicas answers 200 to "/synchronous" within 10 s
    When the synchronous standby's whole node is killed
    Then another synchronous standby is chosen within 40 s

  @ci
  Scenario: PostgreSQL 13
    Given PostgreSQL 13
    And a running cluster of 2 members
    When a row "thirteen" is written on node0
    Then the row "thirteen" is on every member within 10 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 40 s

  @ci
  Scenario: PostgreSQL 19
    Given PostgreSQL 19
    And the members are configured with
      """
      bootstrap: {dcs: {postgresql: {parameters: {io_workers: 2, io_max_workers: 4, escape_string_warning: 'on', log_min_messages: 'warning,checkpointer:info'}}}}
      """
    And a running cluster of 2 members
    When a row "nineteen" is written on node0
    Then the row "nineteen" is on every member within 10 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 40 s

  Scenario: PostgreSQL 17
    Given PostgreSQL 17
    And a running cluster of 2 members
    When a row "seventeen" is written on node0
    Then the row "seventeen" is on every member within 10 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 40 s

  Scenario: PostgreSQL 18
    Given PostgreSQL 18
    And a running cluster of 2 members
    When a row "eighteen" is written on node0
    Then the row "eighteen" is on every member within 10 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s
    And node0 follows node1 within 40 s
