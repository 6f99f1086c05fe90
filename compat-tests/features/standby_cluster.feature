Feature: standby cluster
  A whole cluster follows another one.

  Scenario: a standby leader follows a remote primary
    Given a running cluster of 1 member
    When robin0 replicates in a cluster of its own from node0
      """
      tags: {}
      """
    And a row "across" is written on node0
    Then the row "across" is on robin0 within 20 s
    And robin0 answers 200 to "/standby-leader"
    And robin0 answers 200 to "/leader"
    And robin0 answers 503 to "/primary"
    And robin0 answers 503 to "/replica"
    When robin0 is configured by PATCH with
      """
      {"standby_cluster": null}
      """
    Then robin0 answers 200 to "/primary" within 30 s
    And SQL "SELECT pg_is_in_recovery()" gives "f" on robin0 within 20 s

  @store
  Scenario: a standby cluster of two, switchover and failover inside
    Given a running cluster of 1 member
    When robin0 replicates in a cluster of its own from node0
      """
      tags: {}
      """
    And robin1 joins the cluster of robin0
    Then robin1 streams from robin0 within 30 s
    And robin1's log says "a secondary, and following a standby leader (robin0)" within 20 s
    When patronictl is called with "switchover batman1 --leader robin0 --candidate robin1 --force"
    Then its exit code is 0
    And robin1 answers 200 to "/standby-leader" within 30 s
    And robin0 streams from robin1 within 40 s
    And robin1's log says "no action. I am (robin1), the standby leader with the lock" within 20 s
    When the whole node of robin1 is killed
    Then robin0 answers 200 to "/standby-leader" within 50 s
    And robin0's log says "promoted self to a standby leader by acquiring session lock" within 10 s
    When a row "across" is written on node0
    Then the row "across" is on robin0 within 30 s

  Scenario: the source changes its leader and its timeline
    Given a running cluster of 2 members
    When robin0 replicates in a cluster of its own from node0
      """
      tags: {}
      """
    And patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 30 s
    When the standby cluster's source is changed to node1
    And a row "later" is written on node1
    Then the row "later" is on robin0 within 40 s
    And robin0 answers 200 to "/standby-leader" within 10 s

  Scenario: demote-cluster and promote-cluster
    Given a running cluster of 2 members
    When robin0 replicates in a cluster of its own from node0
      """
      tags: {}
      """
    And robin1 joins the cluster of robin0
    And patronictl is called with "promote-cluster batman1 --force"
    Then its exit code is 0
    And robin0 answers 200 to "/primary" within 30 s
    When a row "promoted" is written on robin0
    Then the row "promoted" is on robin1 within 30 s
    When patronictl is called with "demote-cluster batman --host 127.0.0.1 --port PORT(robin0) --force"
    Then its exit code is 0
    And one of the replicas answers 200 to "/standby-leader" within 60 s
    And the row "promoted" is on node0 within 60 s
    And the row "promoted" is on node1 within 60 s
    When patronictl is called with "promote-cluster batman --force"
    Then its exit code is 0
    And some member leads within 40 s
    And every other member of the first cluster follows the leader within 60 s

  Scenario: permanent slots of a standby cluster
    Given the members are configured with
      """
      bootstrap: {dcs: {slots: {keep: {type: physical}}}}
      """
    And a running cluster of 1 member
    When robin0 replicates in a cluster of its own from node0
      """
      tags: {}
      """
    And robin1 joins the cluster of robin0
    Then robin0 has the replication slots "keep,robin1" within 30 s
    And robin1 has the replication slots "keep,robin0" within 30 s
    When the whole node of robin0 is killed
    Then robin1 answers 200 to "/standby-leader" within 50 s
    And robin1 answers 200 to "/leader"
    And robin1 answers 503 to "/primary"
    When a row "across" is written on node0
    Then the row "across" is on robin1 within 40 s
    And robin1's log says "promoted self to a standby leader by acquiring session lock"
    And node0's timeline is 1
