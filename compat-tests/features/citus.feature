Feature: Citus
  Groups in the keys, and pg_dist_node on the coordinator, on a stand-in for the extension (fixtures/citus). What only a real
  Citus can prove: docs/citus.md. On any store (STORE).

  Background: a new database is much to write for a copy's checkpoint
    Given the members are configured with
      """
      postgresql: {basebackup: {checkpoint: fast}}
      """

  Scenario: a coordinator and a worker find each other
    Given a Citus cluster of the members
      | node0 | 0 | ours |
      | node1 | 1 | ours |
    Then the nodes on node0 are "0 primary node0, 1 primary node1" within 20 s
    And the nodes on node1 are "0 primary node0, 1 primary node1" within 20 s
    And SQL "SHOW shared_preload_libraries" gives "citus" on node0 within 5 s
    And SQL "SHOW max_prepared_transactions" gives "120" on node1 within 5 s
    And SQL "SHOW wal_level" gives "logical" on node0 within 5 s
    And SQL "SHOW citus.local_hostname" gives "localhost" on node0 within 5 s
    And SQL of Citus' database "SELECT rolename || ' ' || authinfo FROM pg_dist_authinfo" gives "postgres password=lab-super" on node1 within 5 s
    And node1's log does not say "authinfo.*lab-super"

  # FLEET=reference runs it on the reference: fixtures/citus/record does.
  Scenario: the coordinator is sent the statements of the reference
    Given the members are configured with
      """
      bootstrap: {dcs: {loop_wait: 10, retry_timeout: 10, ttl: 30}}
      """
    And a Citus cluster of the members
      | node0 | 0 | ours |
      | node1 | 1 | ours |
      | node2 | 1 | ours |
    Then the nodes on node0 are "0 primary node0, 1 primary node1, 1 secondary node2" within 30 s
    And the DCS key "1/sync" matches "sync_standby.*node2" within 40 s
    When our patronictl is called with "switchover batman --group 1 --leader node1 --candidate node2 --force"
    Then its exit code is 0
    And node2 leads its group within 30 s
    And the nodes on node0 are "0 primary node0, 1 primary node2, 1 secondary node1" within 40 s
    When our patronictl is called with "restart batman node2 --group 1 --force"
    Then its exit code is 0
    And node2 leads its group within 30 s
    And the DCS key "1/sync" matches "sync_standby.*node1" within 40 s
    And the nodes on node0 are "0 primary node0, 1 primary node2, 1 secondary node1" within 30 s
    When the whole node of node2 is killed
    Then node1 leads its group within 60 s
    And the statements about nodes on node0 are within 30 s
      """
      citus_add_node(node1, 1, 'primary', 'default')

      citus_add_node(node2, 1, 'secondary', 'default')

      BEGIN
      citus_update_node(2, node1-demoted, true, 10000)
      citus_update_node(s, node1, true, 10000)
      citus_update_node(2, node2, true, 10000)
      COMMIT

      BEGIN
      citus_update_node(2, node2-demoted, true, 10000)
      citus_update_node(2, node2, true, 10000)
      COMMIT

      BEGIN
      citus_update_node(2, node2-demoted, true, 10000)
      citus_update_node(s, node2, true, 10000)
      citus_update_node(2, node1, true, 10000)
      COMMIT
      """

  Scenario: a transaction that has lasted too long is rolled back for others
    Given the members are configured with
      """
      bootstrap: {dcs: {loop_wait: 10, retry_timeout: 10, ttl: 30}}
      """
    And a Citus cluster of the members
      | node0 | 0 | ours |
      | node1 | 1 | ours |
      | node2 | 2 | ours |
    Then the nodes on node0 are "0 primary node0, 1 primary node1, 2 primary node2" within 30 s
    When node0 is told as worker node1 of group 1: before_demote for 9 s
    And our patronictl is called with "restart batman node2 --group 2 --force"
    Then its exit code is 0
    And the statements about nodes on node0 are within 30 s
      """
      BEGIN
      citus_update_node(2, node1-demoted, true, 10000)
      ROLLBACK
      BEGIN
      citus_update_node(s, node2-demoted, true, 10000)
      citus_update_node(s, node2, true, 10000)
      COMMIT
      """
    And the nodes on node0 are "0 primary node0, 1 primary node1, 2 primary node2" within 5 s
    And node0's log says "Rolling back transaction. Last known status: "

  Scenario: clients of a worker wait through its switchover
    Given a Citus cluster of the members
      | node0 | 0 | ours |
      | node1 | 1 | ours |
      | node2 | 1 | ours |
      | node3 | 2 | ours |
    Then the nodes on node0 are "0 primary node0, 1 primary node1, 1 secondary node2, 2 primary node3" within 30 s
    And the DCS key "1/sync" matches "sync_standby.*node2" within 20 s
    Given a writer to group 1 through node0
    When our patronictl is called with "switchover batman --group 1 --leader node1 --candidate node2 --force"
    Then its exit code is 0
    And node2 leads its group within 30 s
    And the nodes on node0 are "0 primary node0, 1 primary node2, 1 secondary node1, 2 primary node3" within 30 s
    And the nodes on node3 are "0 primary node0, 1 primary node2, 1 secondary node1, 2 primary node3" within 10 s
    When that writer is stopped after 5 more rows
    Then none of the writer's statements failed
    And no acknowledged row is missing on node2

  Scenario: the coordinator's node is killed under a distributed write
    Given a Citus cluster of the members
      | node0 | 0 | ours |
      | node1 | 0 | ours |
      | node2 | 1 | ours |
      | node3 | 2 | ours |
    Then the nodes on node0 are "0 primary node0, 0 secondary node1, 1 primary node2, 2 primary node3" within 30 s
    And the DCS key "0/sync" matches "sync_standby.*node1" within 20 s
    Given a writer to group 1 through node0 or node1
    When the whole node of node0 is killed
    Then node1 leads its group within 40 s
    And the nodes on node1 are "0 primary node1, 1 primary node2, 2 primary node3" within 30 s
    When node0 is started
    Then the nodes on node1 are "0 primary node1, 0 secondary node0, 1 primary node2, 2 primary node3" within 60 s
    And the nodes on node3 are "0 primary node1, 0 secondary node0, 1 primary node2, 2 primary node3" within 10 s
    When that writer is stopped after 5 more rows
    Then no acknowledged row is missing on node2

  Scenario: a worker's node is killed under a distributed write
    Given a Citus cluster of the members
      | node0 | 0 | ours |
      | node1 | 1 | ours |
      | node2 | 1 | ours |
      | node3 | 2 | ours |
    Then the nodes on node0 are "0 primary node0, 1 primary node1, 1 secondary node2, 2 primary node3" within 30 s
    And the DCS key "1/sync" matches "sync_standby.*node2" within 20 s
    Given a writer to group 1 through node0
    When the whole node of node1 is killed
    Then node2 leads its group within 40 s
    And the nodes on node0 are "0 primary node0, 1 primary node2, 2 primary node3" within 30 s
    When node1 is started
    Then the nodes on node0 are "0 primary node0, 1 primary node2, 1 secondary node1, 2 primary node3" within 60 s
    And the nodes on node3 are "0 primary node0, 1 primary node2, 1 secondary node1, 2 primary node3" within 10 s
    When that writer is stopped after 5 more rows
    Then no acknowledged row is missing on node2

  Scenario: the coordinator's node and a worker's are killed at the same time
    Given a Citus cluster of the members
      | node0 | 0 | ours |
      | node1 | 0 | ours |
      | node2 | 1 | ours |
      | node3 | 1 | ours |
    Then the nodes on node0 are "0 primary node0, 0 secondary node1, 1 primary node2, 1 secondary node3" within 30 s
    And the DCS key "0/sync" matches "sync_standby.*node1" within 20 s
    And the DCS key "1/sync" matches "sync_standby.*node3" within 20 s
    Given a writer to group 1 through node0 or node1
    When the whole node of node0 is killed
    And the whole node of node2 is killed
    Then node1 leads its group within 40 s
    And node3 leads its group within 40 s
    And the nodes on node1 are "0 primary node1, 1 primary node3" within 30 s
    When node0 is started
    And node2 is started
    Then the nodes on node1 are "0 primary node1, 0 secondary node0, 1 primary node3, 1 secondary node2" within 60 s
    When that writer is stopped after 5 more rows
    Then no acknowledged row is missing on node3

  @mixed
  Scenario Outline: coordinators and workers of both kinds: <coordinator>, <worker>
    Given a Citus cluster of the members
      | node0 | 0 | <coordinator> |
      | node1 | 0 | <other>       |
      | node2 | 1 | <worker>      |
      | node3 | 1 | <heir>        |
    Then the nodes on node0 are "0 primary node0, 0 secondary node1, 1 primary node2, 1 secondary node3" within 40 s
    And the DCS key "0/sync" matches "sync_standby.*node1" within 20 s
    And the DCS key "1/sync" matches "sync_standby.*node3" within 20 s
    When our patronictl is called with "switchover batman --group 1 --leader node2 --candidate node3 --force"
    Then its exit code is 0
    And the nodes on node0 are "0 primary node0, 0 secondary node1, 1 primary node3, 1 secondary node2" within 40 s
    When patronictl of the reference is called with "switchover batman --group 0 --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And the nodes on node1 are "0 primary node1, 0 secondary node0, 1 primary node3, 1 secondary node2" within 40 s
    And both patronictls print the same for
      | list batman --group 0      |
      | list batman --group 1      |
      | topology batman --group 1  |
      | history batman --group 1   |
      | show-config batman --group 0 |

    Examples:
      | coordinator | other     | worker    | heir      |
      | ours        | reference | reference | ours      |
      | reference   | ours      | ours      | reference |
