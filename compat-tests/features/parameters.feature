@pg
Feature: parameters of PostgreSQL
  What is configured reaches the server, at the latest when the server can say what it has.

  # The reference drops the configuration.
  @ours
  Scenario: a configuration arrives when PostgreSQL has just died
    Given a running cluster of 1 member
    When patronictl is called with "pause batman --wait"
    And the postmaster of node0 is killed
    And node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"work_mem": "7MB", "max_connections": 70}}}
      """
    Then node0's log says "PAUSE: postgres is not running" within 20 s
    And node0's log does not say "Removing invalid parameter"
    When patronictl is called with "restart batman node0 --force"
    Then its output contains "Success: restart on member node0"
    And SQL "SELECT current_setting('work_mem') || current_setting('max_connections')" gives "7MB70" on node0 within 20 s
    And the file "data/postgresql.conf" of node0 matches "(?m)^port = '\d+'$" within 1 s
    When patronictl is called with "resume batman --wait"
    Then node0 leads within 20 s

  @ours
  Scenario: a configuration arrives while PostgreSQL does not answer
    Given a running cluster of 2 members
    When PostgreSQL of node1 is frozen
    And node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"work_mem": "7MB"}}}
      """
    Then node1's log says "Reload of PostgreSQL configuration is put off until PostgreSQL answers." within 30 s
    And node1's log does not say "Removing invalid parameter"
    And `! grep 7MB LABDATA/postgresql.conf` succeeds in node1's directory
    When PostgreSQL of node1 is thawed
    Then SQL "SHOW work_mem" gives "7MB" on node1 within 20 s
    And the file "data/postgresql.conf" of node1 matches "(?m)^port = '\d+'$" within 1 s

  # The reference leaves a standby of 12 or newer as it is.
  @ours
  Scenario: a daemon joins servers that run, with other parameters
    Given a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    And the postmasters are remembered
    And node1 is shut down
    And node0 is shut down
    And node0's configuration file is changed with
      """
      postgresql: {parameters: {work_mem: 7MB, max_files_per_process: 900}}
      """
    And node1's configuration file is changed with
      """
      postgresql: {parameters: {work_mem: 8MB, max_files_per_process: 901}}
      """
    And node0 is started
    And node1 is started
    Then SQL "SHOW work_mem" gives "7MB" on node0 within 20 s
    And SQL "SHOW work_mem" gives "8MB" on node1 within 20 s
    And GET "/patroni" of node0 has "pending_restart_reason" = "{"max_files_per_process": {"old_value": "1000", "new_value": "900"}}" within 20 s
    And GET "/patroni" of node1 has "pending_restart_reason" = "{"max_files_per_process": {"old_value": "1000", "new_value": "901"}}" within 20 s
    And node1 follows node0 within 20 s
    And the postmasters are the remembered ones
    When patronictl is called with "restart batman --force"
    Then SQL "SHOW max_files_per_process" gives "900" on node0 within 30 s
    And SQL "SHOW max_files_per_process" gives "901" on node1 within 30 s
    And node1 follows node0 within 20 s

  # Everything of the standby's is in postgresql.auto.conf, as pg_basebackup -R leaves it.
  @ours
  Scenario: a daemon joins a standby that people made
    Given a running cluster of 1 member
    When node1 is made with
      """
      postgresql: {parameters: {work_mem: 8MB}}
      """
    And patronictl is called with "pause batman --wait"
    And `LABBIN/pg_basebackup -h 127.0.0.1 -p PORT(node0) -U replicator -D LABDATA -R -X stream -c fast` is run in node1's directory
    And `rm LABDATA/postgresql.conf && cp LABDATA/postgresql.base.conf LABDATA/postgresql.conf && rm LABDATA/postgresql.base.conf && echo "include_if_exists = 'people.conf'" >>LABDATA/postgresql.conf` is run in node1's directory
    And `printf "port = LABPORT\nunix_socket_directories = 'LABROOT'\nlisten_addresses = '127.0.0.1'\nmax_connections = 60\ncluster_name = 'theirs'\n" >LABDATA/people.conf && LABBIN/pg_ctl -D LABDATA -w -l LABNODE/pg.log start` is run in node1's directory
    And node1 starts
    Then SQL "SHOW work_mem" gives "8MB" on node1 within 20 s
    And GET "/patroni" of node1 has "pending_restart_reason.cluster_name" = "{"old_value": "theirs", "new_value": "batman"}" within 20 s
    And node1 follows node0 within 20 s

  @ours
  Scenario: what people change beside us
    Given a running cluster of 1 member
    When SQL "ALTER SYSTEM SET max_files_per_process = 800" is run on node0
    And SQL "SELECT pg_reload_conf()" is run on node0
    Then GET "/patroni" of node0 has "pending_restart_reason" = "{"max_files_per_process": {"old_value": "1000", "new_value": "800"}}" within 8 s
    And the DCS key "members/node0" matches "max_files_per_process" within 8 s
    And node0's log says "PostgreSQL configuration parameters requiring restart (max_files_per_process) seem to be changed bypassing Patroni config." within 2 s
    When SQL "ALTER SYSTEM RESET max_files_per_process" is run on node0
    And SQL "SELECT pg_reload_conf()" is run on node0
    Then GET "/patroni" of node0 has "pending_restart" = "null" within 8 s

  # The reference's file cannot be read by PostgreSQL.
  @ours
  Scenario: every character that a parameter may hold, and names that it may not have
    Given a running cluster of 1 member
    When node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"log_line_prefix": "%m\n\t[%p]\r\u0001\u000b\u007f '\\n ",
        "my.guc": "a\nport = 1\n", "my.b-d": "x", "a.b.c": "x", "my.guc2\nport": "y"}}}
      """
    Then SQL "SELECT current_setting('log_line_prefix') = E'%m\n\t[%p]\r\x01\x0b\x7f ''\\n '" gives "t" on node0 within 20 s
    And SQL "SELECT current_setting('my.guc') = E'a\nport = 1\n'" gives "t" on node0 within 20 s
    When patronictl is called with "restart batman --force"
    Then its output contains "Success: restart on member node0"
    And SQL "SELECT current_setting('log_line_prefix') = E'%m\n\t[%p]\r\x01\x0b\x7f ''\\n '" gives "t" on node0 within 20 s
    When node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"work_mem": "9MB"}}}
      """
    Then SQL "SHOW work_mem" gives "9MB" on node0 within 20 s

  @ours
  Scenario: access rules given as a text
    Given the members are configured with
      """
      postgresql:
        pg_hba: |
          local all all trust
          host replication replicator 127.0.0.1/32 md5
          host all all 127.0.0.1/32 md5
        pg_ident: |
          a b c
      """
    And a running cluster of 1 member
    Then SQL "SELECT count(*) FROM pg_hba_file_rules" gives "3" on node0 within 10 s
    And the file "data/pg_ident.conf" of node0 matches "(?m)^a b c$" within 1 s
    When node0's configuration file is changed with
      """
      postgresql: {pg_hba: {local: all}}
      """
    And node0 is sent SIGHUP
    Then node0's log says "postgresql.pg_hba must be a list of lines, or a text" within 20 s
    And SQL "SELECT count(*) FROM pg_hba_file_rules" gives "3" on node0 within 5 s

  @ours
  Scenario: access rules of the bootstrap given as a text
    Given a member that is alone with
      """
      bootstrap:
        pg_hba: |
          host replication replicator 127.0.0.1/32 md5
          host all someone 127.0.0.1/32 md5
      postgresql: {pg_hba: ~}
      """
    Then node0 leads within 60 s
    And the file "data/pg_hba.conf" of node0 matches "(?m)^host all someone 127.0.0.1/32 md5$" within 5 s

  @ours
  Scenario: the server's places are not parameters
    Given a running cluster of 1 member
    When node0 is configured by PATCH with
      """
      {"postgresql": {"parameters": {"data_directory": "/nowhere", "config_file": "/nowhere/postgresql.conf", "work_mem": "7MB"}}}
      """
    Then SQL "SHOW work_mem" gives "7MB" on node0 within 20 s
    And GET "/patroni" of node0 has "pending_restart" = "null" within 5 s
    When node0's configuration file is changed with
      """
      postgresql: {parameters: {hba_file: LABDATA/./x/../pg_hba.conf, ident_file: ./pg_ident.conf, external_pid_file: LABDATA/postmaster.pid}}
      """
    And node0 is sent SIGHUP
    Then node0's log says "No PostgreSQL configuration items changed, nothing to reload." within 20 s
    When patronictl is called with "restart batman --force"
    Then its output contains "Success: restart on member node0"
    And node0 leads within 20 s
    And GET "/patroni" of node0 has "pending_restart" = "null" within 5 s

  @ours
  Scenario: PostgreSQL listens on another port
    Given a running cluster of 2 members
    When node0's PostgreSQL is to listen on another port
    And node0 is sent SIGHUP
    Then GET "/patroni" of node0 has "pending_restart" = "true" within 20 s
    And the DCS key "members/node0" matches "127.0.0.1:PORT(node0)/"
    When patronictl is called with "restart batman node0 --force"
    Then its output contains "Success: restart on member node0"
    When node0's PostgreSQL is on its new port
    Then the DCS key "members/node0" matches "127.0.0.1:PORT(node0)/" within 10 s
    And node0 leads within 10 s
    And node1 follows node0 within 20 s
    When a row "after" is written on node0
    Then the row "after" is on every member within 20 s

  # The reference publishes the new port at once, and looks for its server there.
  @ours
  Scenario: a daemon joins servers that are to listen on another port
    Given a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    And node0 is shut down
    And node0's PostgreSQL is to listen on another port
    And node0 is started
    Then GET "/patroni" of node0 has "pending_restart" = "true" within 20 s
    And GET "/patroni" of node0 has "state" = "running" within 5 s
    And the DCS key "members/node0" matches "127.0.0.1:PORT(node0)/" within 5 s
    When patronictl is called with "resume batman --wait"
    Then node0 leads within 20 s
    When a row "before" is written on node0
    Then the row "before" is on every member within 20 s
    When patronictl is called with "restart batman node0 --force"
    Then its output contains "Success: restart on member node0"
    When node0's PostgreSQL is on its new port
    Then the DCS key "members/node0" matches "127.0.0.1:PORT(node0)/" within 10 s
    And node1 follows node0 within 20 s
    When node1's PostgreSQL is to listen on another port
    And the daemon of node1 is killed
    And node1 is started
    Then GET "/patroni" of node1 has "pending_restart" = "true" within 20 s
    And the DCS key "members/node1" matches "127.0.0.1:PORT(node1)/" within 5 s
    And node1 follows node0 within 20 s
    When patronictl is called with "restart batman node1 --force"
    Then its output contains "Success: restart on member node1"
    When node1's PostgreSQL is on its new port
    Then the DCS key "members/node1" matches "127.0.0.1:PORT(node1)/" within 10 s
    And node1 follows node0 within 20 s

  # The reference (by reading) goes on asking at the old port, and publishes it.
  @ours
  Scenario: in a pause people restart PostgreSQL on the port that it is to have
    Given the members are configured with
      """
      postgresql: {use_unix_socket: true, use_unix_socket_repl: true}
      """
    And a running cluster of 2 members
    When patronictl is called with "pause batman --wait"
    And node0's PostgreSQL is to listen on another port
    And node0 is sent SIGHUP
    Then GET "/patroni" of node0 has "pending_restart" = "true" within 20 s
    When PostgreSQL of node0 is stopped manually
    And PostgreSQL of node0 is started manually
    And node0's PostgreSQL is on its new port
    Then GET "/patroni" of node0 has "state" = "running" within 20 s
    And the DCS key "members/node0" matches "127.0.0.1:PORT(node0)/" within 20 s
    And GET "/patroni" of node0 has "pending_restart" = "null" within 20 s
    And node1 follows node0 within 20 s
    When patronictl is called with "resume batman --wait"
    Then node0 leads within 20 s
    When a row "after" is written on node0
    Then the row "after" is on every member within 20 s

  Scenario: directories that cannot be used are found at the start
    Given a member that is alone with
      """
      postgresql: {pgpass: /proc/x/pgpass}
      """
    Then node0's daemon ends with exit code 1 within 30 s
    And node0's log says "'/proc/x' is defined in `postgresql.pgpass`, couldn't create the directory"
    And `test ! -e LABDATA && test ! -e LABDATA.failed` succeeds in node0's directory
    When node1 is made with
      """
      postgresql: {parameters: {unix_socket_directories: 'LABROOT, /proc/sockets'}}
      """
    And node1 starts
    Then node1's daemon ends with exit code 1 within 30 s
    And node1's log says "'/proc/sockets' is defined in unix_socket_directories, couldn't create the directory"

  Scenario: a restart that is ordered where a crash gets no time at all
    Given a running cluster of 2 members
    When node0 is configured by PATCH with
      """
      {"primary_start_timeout": 0, "postgresql": {"parameters": {"work_mem": "7MB"}}}
      """
    Then SQL "SHOW work_mem" gives "7MB" on node0 within 20 s
    When patronictl is called with "restart batman node0 --force"
    Then its output contains "Success: restart on member node0"
    And node0 leads within 10 s
    And node0's timeline is 1

  Scenario: every child finds the name of the Kerberos service
    Given a script "note.sh"
      """
      #!/bin/sh
      file=$1; shift
      echo "$PGKRBSRVNAME $@" >>"$file"
      """
    And the members are configured with
      """
      postgresql:
        krbsrvname: pgservice
        before_stop: LABROOT/note.sh LABNODE/notes stop
        callbacks: {on_start: LABROOT/note.sh LABNODE/notes}
      """
    And a running cluster of 1 member
    When patronictl is called with "restart batman node0 --force"
    Then `grep -qx 'pgservice stop' LABNODE/notes` succeeds in node0's directory within 10 s
    And `grep -qx 'pgservice on_start primary batman' LABNODE/notes` succeeds in node0's directory within 10 s
