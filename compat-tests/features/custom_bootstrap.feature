Feature: custom bootstrap
  A new cluster comes from a command of the user's, a replica from a method of the user's.

  Scenario: a cluster from a command
    Given the members are configured with
      """
      bootstrap:
        method: mine
        mine: {command: initdb -k -N -U postgres -E UTF8 --auth=trust -D LABDATA, no_params: true}
      """
    And a running cluster of 1 member
    Then node0's log says "Running custom bootstrap script: initdb -k -N"
    And the DCS key "initialize" matches "^[0-9]{19}$"

  Scenario: post_bootstrap gets the connection string
    Given the members are configured with
      """
      bootstrap: {post_bootstrap: "psql -c 'CREATE TABLE from_post_bootstrap ()'"}
      """
    And a running cluster of 1 member
    Then SQL "SELECT to_regclass('from_post_bootstrap')" gives "from_post_bootstrap" on node0 within 5 s
