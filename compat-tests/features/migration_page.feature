Feature: the migration page
  What docs/guide/migration.md tells an operator to type is typed here, under an application that writes.

  @mixed
  Scenario: the page's recipe in a pause, there and back
    Given a running cluster of the members
      | node0 | reference |
      | node1 | reference |
      | node2 | reference |
    And a writer
    And the postmasters are remembered
    When the recipe "check" of the page "migration.md" is carried out
    And the recipe "pause" of the page "migration.md" is carried out
    Then node0 leads within 30 s
    And the postmasters are the remembered ones
    And every other member follows the leader within 30 s
    When the recipe "pause-back" of the page "migration.md" is carried out
    Then node0 leads within 30 s
    And the postmasters are the remembered ones
    When the writer is stopped
    Then no acknowledged row is missing
    And the writer met at most 0 gaps over 1500 ms

  @mixed
  Scenario: the page's recipe node by node, there and back
    Given a running cluster of the members
      | node0 | reference |
      | node1 | reference |
      | node2 | reference |
    And a writer
    When the recipe "rolling" of the page "migration.md" is carried out
    Then node1 leads within 30 s
    When the recipe "rolling-back" of the page "migration.md" is carried out
    Then node0 leads within 30 s
    And every other member follows the leader within 30 s
    When the writer is stopped
    Then no acknowledged row is missing

  @mixed
  Scenario: the page's recipe in a pause, there and back, with Consul
    Given the DCS is consul
    And a running cluster of the members
      | node0 | reference |
      | node1 | reference |
      | node2 | reference |
    And a writer
    And the postmasters are remembered
    When the recipe "pause" of the page "migration.md" is carried out
    And the recipe "pause-back" of the page "migration.md" is carried out
    Then node0 leads within 30 s
    And the postmasters are the remembered ones
    When the writer is stopped
    Then no acknowledged row is missing

  @mixed
  Scenario: the page's recipe node by node, there and back, with Consul
    Given the DCS is consul
    And a running cluster of the members
      | node0 | reference |
      | node1 | reference |
      | node2 | reference |
    And a writer
    When the recipe "rolling" of the page "migration.md" is carried out
    And the recipe "rolling-back" of the page "migration.md" is carried out
    Then node0 leads within 30 s
    When the writer is stopped
    Then no acknowledged row is missing

  @mixed
  Scenario: the page's recipe in a pause, there and back, with ZooKeeper
    Given the DCS is zookeeper
    And a running cluster of the members
      | node0 | reference |
      | node1 | reference |
      | node2 | reference |
    And a writer
    And the postmasters are remembered
    When the recipe "pause" of the page "migration.md" is carried out
    And the recipe "pause-back" of the page "migration.md" is carried out
    Then node0 leads within 30 s
    And the postmasters are the remembered ones
    When the writer is stopped
    Then no acknowledged row is missing

  @mixed
  Scenario: the page's recipe node by node, there and back, with ZooKeeper
    Given the DCS is zookeeper
    And a running cluster of the members
      | node0 | reference |
      | node1 | reference |
      | node2 | reference |
    And a writer
    When the recipe "rolling" of the page "migration.md" is carried out
    And the recipe "rolling-back" of the page "migration.md" is carried out
    Then node0 leads within 30 s
    When the writer is stopped
    Then no acknowledged row is missing
