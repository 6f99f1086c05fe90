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
