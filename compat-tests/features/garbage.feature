Feature: nonsense in the DCS
  Somebody writes what makes no sense. A healthy primary goes on, and all is well when it is repaired.

  @ci
  Scenario: nonsense that both bear
    Given a running cluster of 2 members
    Then node0 keeps leading while these are in the DCS, one after the other
      | sync                | EMPTY                                            | + |
      | failover            | EMPTY                                            | + |
      | failsafe            | EMPTY                                            | + |
      | status              | EMPTY                                            |   |
      | sync                | {                                                | + |
      | failsafe            | {                                                | + |
      | members/node1       | {                                                |   |
      | failover            | []                                               | + |
      | failsafe            | []                                               | + |
      | sync                | []                                               |   |
      | members/o'dd näme   | {"conn_url": 5, "api_url": [], "tags": "x"}      | + |
      | members/ghost       | {"role": "emperor", "state": "asleep"}           | + |
      | members/x/y         | {}                                               | + |
      | unknown             | 1 MB                                             |   |
      | sync                | 1 MB of JSON                                     | + |
      | failsafe            | 1 MB                                             |   |
      | status              | {"optime": "x", "slots": 7, "retain_slots": 9}   |   |
      | failover            | {"leader": "nobody", "scheduled_at": "9999-12-31T23:59:59+14:00"} | |
      | config              | EMPTY                                            |   |
    And node0 leads within 10 s
    And node1 follows node0 within 30 s
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s

  @ours
  Scenario: nonsense that only we bear
    Given the members are configured with
      """
      bootstrap: {dcs: {failsafe_mode: true}}
      """
    And a running cluster of 2 members
    Then node0 keeps leading while these are in the DCS, one after the other
      | failover            | {"leader": "node0", "scheduled_at": "tomorrow-ish"} |   |
      | failover            | {"leader": 5, "member": ["node1"]}               |   |
      | history             | {                                                | + |
      | status              | [1, 2]                                           | + |
      | optime/leader       | x                                                |   |
      | history             | [[-1], ["x"], 5, [4294967296, 1, "r"]]           |   |
      | config              | [1]                                              |   |
      | config              | {"ttl": "x", "loop_wait": -1, "retry_timeout": [], "synchronous_mode": 5} | |
      | config              | 1 MB                                             |   |
      | sync                | {"leader": ["node0"], "quorum": "many", "sync_standby": 5} | |
      | failsafe            | {"node0": 5, "": [], "ünï": null}                |   |
      | members/node1       | {"state": 5, "role": [], "conn_url": {}, "api_url": 7, "xlog_location": "x", "tags": [1]} | |
      | members/node0       | 1 MB                                             |   |
    And node0 leads within 10 s
    And node1 follows node0 within 30 s
    And no log says "BUG"
    And no log says "panicked"
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node1 leads within 20 s

  Scenario: a leader key that names nobody
    Given a running cluster of 2 members
    When the DCS key "leader" is set to
      """
      o'dd näme
      """
    Then PostgreSQL of node0 takes no writes within 20 s
    When the DCS key "leader" is deleted
    Then some member leads within 40 s
    And every other member follows the leader within 60 s

  Scenario: an initialize key of another cluster ends the members, PostgreSQL as it is
    Given a running cluster of 2 members
    When the DCS key "initialize" is set to
      """
      1234567890123456789
      """
    Then node0's log says "system ID mismatch, node node0 belongs to a different cluster" within 20 s
    And node1's log says "system ID mismatch, node node1 belongs to a different cluster" within 20 s
    When the DCS key "initialize" is deleted
    And node0's daemon is started again
    And node1's daemon is started again
    Then some member leads within 60 s
