Feature: quorum commit
  Any of several standbys confirms a commit, and only one that may have it becomes the leader.

  Scenario: quorum of one out of two
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: quorum}}
      """
    And a running cluster of 3 members
    Then the DCS key "sync" matches ".quorum.:1,.*node1,node2" within 30 s
    And SQL "SHOW synchronous_standby_names" gives "ANY 1 (node1,node2)" on node0 within 20 s
    And one of the replicas answers 200 to "/quorum" within 10 s
    When the whole node of node0 is killed
    Then another member than node0 leads within 40 s
