Feature: pg_rewind
  A former primary that has written what nobody else has comes back without a new copy.

  @ci
  Scenario: a diverged former primary is rewound
    Given a running cluster of 2 members
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    And a checkpoint is made on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And node0's log says "running pg_rewind from node1"
    And the row "won" is on every member within 10 s
    And the row "lost" is on no member

  Scenario: without pg_rewind, a diverged former primary is copied again when this is allowed
    Given the members are configured with
      """
      bootstrap: {dcs: {postgresql: {use_pg_rewind: false}}}
      postgresql: {remove_data_directory_on_diverged_timelines: true}
      """
    And a running cluster of 2 members
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a row "won" is written on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And node0's log says "reinitializing due to diverged timelines"
    And the row "lost" is on no member
