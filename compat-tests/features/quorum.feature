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

  Scenario: the paths of quorum commit, and a number of nodes that nobody can have
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: quorum, synchronous_node_count: 3}}
      """
    And a running cluster of 2 members
    Then the DCS key "sync" matches ".leader.:.node0.,.quorum.:0,.sync_standby.:.node1." within 30 s
    And node1 answers 200 to "/quorum" within 10 s
    And node1 answers 200 to "/read-only-quorum"
    And node1 answers 503 to "/sync"
    And node1 answers 503 to "/async"
    And node0 answers 200 to "/read-only-quorum"
    And node0 answers 503 to "/quorum"
    When node2 is added with
      """
      tags: {nosync: true}
      """
    Then node2 follows node0 within 40 s
    And node2 answers 503 to "/quorum"
    And node2 answers 200 to "/async" within 10 s
    And the DCS key "sync" matches ".sync_standby.:.node1." within 1 s
    When node2's configuration is changed by
      """
      tags: {nosync: null}
      """
    And node2 is sent SIGHUP
    Then the DCS key "sync" matches ".quorum.:0,.sync_standby.:.node1,node2." within 30 s
    And SQL "SHOW synchronous_standby_names" gives "ANY 2 (node1,node2)" on node0 within 20 s
    When node0 is configured by PATCH with
      """
      {"synchronous_node_count": 1}
      """
    Then the DCS key "sync" matches ".quorum.:1,.sync_standby.:.node1,node2." within 30 s
    And SQL "SHOW synchronous_standby_names" gives "ANY 1 (node1,node2)" on node0 within 20 s
    When node2 is shut down
    Then the DCS key "sync" matches ".quorum.:0,.sync_standby.:.node1." within 30 s
