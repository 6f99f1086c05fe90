Feature: doctor
  What is wrong with a cluster is told in one report, and nothing is changed.

  Scenario: a healthy cluster, a pause, and a member that is gone
    Given a running cluster of 2 members
    When our patronictl is called with "doctor batman"
    Then its exit code is 0
    And its output contains "node0 leads"
    And its output contains "1 of 1 other members could take over"
    When our patronictl is called with "switchover batman --check"
    Then its exit code is 0
    And its output contains "A switchover from node0 to node1 can be done"
    When our patronictl is called with "switchover batman --check --candidate node0"
    Then its exit code is 2
    When our patronictl is called with "pause batman --wait"
    And our patronictl is called with "doctor batman -f json"
    Then its exit code is 1
    And its output contains "the cluster is paused"
    When our patronictl is called with "resume batman --wait"
    And the whole node of node1 is killed
    And our patronictl is called with "doctor batman -f yaml"
    Then its exit code is 2
    And node0 leads within 10 s

  Scenario: what PostgreSQL says, with the configuration of a member
    Given a running cluster of 2 members
    When our patronictl is called with "doctor batman"
    Then its output contains "not looked at: this configuration has no postgresql.authentication"
    When our patronictl is called with "-c CONFIG(node0) doctor batman"
    Then its output contains "superuser and replication user can connect to all 2 from here"
    And its output contains "2, and none keeps much for nobody"
    And its output contains "archive_mode is off"
    And its output contains "PostgreSQL takes all of their lines"
    And its output contains "data in "
    When SQL "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) FROM rewinder" is run on node0
    And SQL "ALTER ROLE replicator PASSWORD 'another'" is run on node0
    And our patronictl is called with "-c CONFIG(node0) doctor batman -f tsv"
    Then its exit code is 2
    And its output contains "the user for pg_rewind may not read what it has to"
    And its output contains "the replication user cannot connect from here: password authentication failed"
