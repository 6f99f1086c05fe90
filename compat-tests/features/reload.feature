Feature: reload
  A changed configuration file and a changed /config take effect while running; a broken one does not.

  Scenario: what a changed file does
    Given a running cluster of 1 member
    When node0's configuration file is changed with
      """
      postgresql: {parameters: {work_mem: 7MB, max_files_per_process: 900, max_connections: 55}}
      tags: {datacenter: dc7}
      """
    And node0 is sent SIGHUP
    Then SQL "SHOW work_mem" gives "7MB" on node0 within 20 s
    And GET "/patroni" of node0 has "pending_restart_reason.max_files_per_process" = "{"old_value": "1000", "new_value": "900"}" within 20 s
    And the DCS key "members/node0" matches "dc7" within 20 s
    And GET "/patroni" of node0 has "pending_restart_reason" = "{"max_files_per_process": {"old_value": "1000", "new_value": "900"}}" within 20 s
    When node0 is sent SIGHUP
    Then node0's log says "No local configuration items changed." within 20 s
    When node0's configuration file is changed with
      """
      postgresql: {parameters: {work_mem: 6MB, max_files_per_process: 1000}}
      """
    And the REST API answers
      | member | method | path    | body | status |
      | node0  | POST   | /reload |      | 202    |
    Then SQL "SHOW work_mem" gives "6MB" on node0 within 20 s
    And GET "/patroni" of node0 has "pending_restart" = "null" within 20 s

  Scenario: a broken file and a broken dynamic configuration change nothing
    Given a running cluster of 1 member
    When node0's configuration file is changed with
      """
      postgresql: {parameters: {work_mem: 7MB}}
      """
    And node0 is sent SIGHUP
    Then SQL "SHOW work_mem" gives "7MB" on node0 within 20 s
    When node0's configuration file is "scope: ["
    And node0 is sent SIGHUP
    Then node0's log says "Exception when reloading local configuration from" within 20 s
    And SQL "SHOW work_mem" gives "7MB" on node0 within 5 s
    When node0's configuration file is changed with
      """
      log: {level: loud}
      """
    And node0 is sent SIGHUP
    Then node0's log says "Failed to reload config_file" within 20 s
    When node0 is configured by PATCH with
      """
      {"loop_wait": "soon", "postgresql": {"parameters": {"work_mem": "9MB"}}}
      """
    Then node0's log says "Exception when setting dynamic_configuration" within 20 s
    And SQL "SHOW work_mem" gives "7MB" on node0 within 5 s
    And node0 leads within 10 s

  Scenario: the log changes while running
    Given a running cluster of 1 member
    When node0's configuration file is changed with
      """
      log:
        dir: LABDATA
        format: '%(levelname)s|%(name)s|%(message)s'
        mode: '0640'
      """
    And node0 is sent SIGHUP
    Then the file "data/patroni.log" of node0 matches "(?m)^INFO\|patroni\.__main__\|no action\. I am \(node0\), the leader with the lock" within 20 s
    When node0's configuration file is changed with
      """
      log:
        format: '%(asctime)s %(levelname)-8s!%(message).12s'
        dateformat: '%Y'
        level: WARNING
        loggers: {patroni.__main__: DEBUG}
        file_size: 300
        file_num: 2
      """
    And node0 is sent SIGHUP
    Then the file "data/patroni.log" of node0 matches "(?m)^20\d\d INFO    !no action. I$" within 20 s
    And the file "data/patroni.log.1" of node0 matches "." within 30 s
    When node0's configuration file is changed with
      """
      log: {dir: ~, level: INFO, format: 'back %(message)s', dateformat: ''}
      """
    And node0 is sent SIGHUP
    Then node0's log says "back no action. I am (node0), the leader with the lock" within 20 s

  # The reference can do this only where python-json-logger is installed.
  @ours
  Scenario: the log becomes JSON while running
    Given a running cluster of 1 member
    When node0's configuration file is changed with
      """
      log:
        dir: LABDATA
        type: json
        format: [message, {levelname: level}, lineno]
        static_fields: {app: lab}
        deduplicate_heartbeat_logs: true
      """
    And node0 is sent SIGHUP
    Then the file "data/patroni.log" of node0 matches "(?m)^\{.message.: .Reloading PostgreSQL configuration\.., .level.: .INFO., .lineno.: \d+, .app.: .lab.\}$" within 20 s

  @ci
  Scenario: a ttl many times as long, and back again, costs nobody his role
    Given a running cluster of 2 members
    When the postmasters are remembered
    And node0 is configured by PATCH with
      """
      {"ttl": 300}
      """
    Then node1's log says "No PostgreSQL configuration items changed, nothing to reload." within 20 s
    And the leader's lease has more than 100 s left within 20 s
    And node0 leads within 1 s
    When node0 is configured by PATCH with
      """
      {"ttl": 20}
      """
    Then the leader's lease has less than 21 s left within 20 s
    And node0 leads within 1 s
    And the postmasters are the remembered ones

  @ours
  Scenario: the CA file for requests to other members is not there yet
    Given a running cluster of 2 members where node1 has
      """
      ctl: {cacert: LABNODE/later.crt}
      """
    Then node1 follows the leader within 30 s
    And node1's log says "Can not use the TLS files for requests to other members (CA " within 10 s

  @ours
  Scenario: a reload does not empty an address
    Given a running cluster of 1 member
    When node0's configuration file is changed with
      """
      postgresql: {connect_address: "10.0.0.1:abc"}
      """
    And node0 is sent SIGHUP
    Then node0's log says "10.0.0.1:abc" within 20 s
    And the DCS key "members/node0" matches "conn_url\":\"postgres://127"
    When node0's configuration file is changed with
      """
      postgresql: {connect_address: ~}
      restapi: {allowlist: [1]}
      """
    And node0 is sent SIGHUP
    Then node0's log says "host names in "allowlist", but got 1" within 20 s
