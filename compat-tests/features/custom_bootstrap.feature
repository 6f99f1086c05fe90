@pg
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
      bootstrap:
        dcs: {loop_wait: 10}
        post_bootstrap: "psql -c 'CREATE TABLE from_post_bootstrap ()'"
        users: {somebody: {password: nobody}}
      """
    And a running cluster of 1 member
    Then SQL "SELECT to_regclass('from_post_bootstrap')" gives "from_post_bootstrap" on node0 within 5 s
    # Not while the cluster is being made, which here is one cycle.
    And the callbacks of node0 are "on_start primary batman" within 5 s
    And node0's log says "User creation is not be supported starting from v4.0.0"

  @ci
  Scenario: point-in-time recovery into a new cluster
    Given the members are configured with
      """
      bootstrap:
        dcs:
          postgresql:
            parameters: {archive_mode: 'on', archive_command: "mkdir -p LABROOT/archive && cp %p LABROOT/archive/%f"}
      """
    And a script "restore.sh"
      """
      #!/bin/sh
      echo "$@" >LABROOT/restore.args
      for argument; do case "$argument" in --datadir=*) cp -a LABROOT/backup "${argument#--datadir=}" ;; esac; done
      """
    And a running cluster of 1 member
    When a row "before" is written on node0
    And `pg_basebackup -D LABROOT/backup -h 127.0.0.1 -p LABPORT -U replicator -X stream -c fast` is run in node0's directory
    And SQL "SELECT pg_create_restore_point('here')" is run on node0
    And a row "after" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    # The segment of the restore point too: without it the target is never reached.
    Then SQL "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'" gives "0" on node0 within 20 s
    When robin0 is made in the cluster robin with
      """
      bootstrap:
        method: pitr
        pitr:
          command: LABROOT/restore.sh
          colour: blue
          recovery_conf:
            recovery_target_name: here
            recovery_target_action: promote
            recovery_target_timeline: '1'
            restore_command: cp LABROOT/archive/%f %p
      """
    And robin0 starts
    Then robin0 answers 200 to "/primary" within 60 s
    And SQL "SELECT pg_is_in_recovery()" gives "f" on robin0 within 20 s
    And the row "before" is on robin0 within 5 s
    And SQL "SELECT count(*) FROM lab_rows WHERE name = 'after'" gives "0" on robin0 within 5 s
    And SQL "SELECT timeline_id FROM pg_control_checkpoint()" gives "2" on robin0 within 20 s
    And `grep -qx -- '--scope=robin --datadir=LABDATA --colour=blue' LABROOT/restore.args` succeeds in robin0's directory
    And `test ! -e LABDATA/recovery.signal && grep -q 'host replication replicator' LABDATA/pg_hba.conf` succeeds in robin0's directory
    And robin0's log says "initialized a new cluster" within 20 s

  Scenario: the method brings its own recovery configuration
    Given the members are configured with
      """
      bootstrap:
        dcs:
          postgresql:
            parameters: {archive_mode: 'on', archive_command: "mkdir -p LABROOT/archive && cp %p LABROOT/archive/%f"}
      """
    And a script "restore.sh"
      """
      #!/bin/sh
      data=$1
      cp -a LABROOT/backup "$data"
      touch "$data/recovery.signal"
      echo "restore_command = 'cp LABROOT/archive/%f %p'" >>"$data/postgresql.auto.conf"
      echo "recovery_target_name = 'here'" >>"$data/postgresql.auto.conf"
      echo "recovery_target_action = 'promote'" >>"$data/postgresql.auto.conf"
      """
    And a running cluster of 1 member
    When a row "before" is written on node0
    And `pg_basebackup -D LABROOT/backup -h 127.0.0.1 -p LABPORT -U replicator -X stream -c fast` is run in node0's directory
    And SQL "SELECT pg_create_restore_point('here')" is run on node0
    And a row "after" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    # The segment of the restore point too: without it the target is never reached.
    Then SQL "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'" gives "0" on node0 within 20 s
    When robin0 is made in the cluster robin with
      """
      bootstrap:
        method: mine
        mine: {command: LABROOT/restore.sh LABDATA, no_params: true, keep_existing_recovery_conf: true}
      """
    And robin0 starts
    Then robin0 answers 200 to "/primary" within 60 s
    And SQL "SELECT pg_is_in_recovery()" gives "f" on robin0 within 20 s
    And the row "before" is on robin0 within 5 s
    And SQL "SELECT count(*) FROM lab_rows WHERE name = 'after'" gives "0" on robin0 within 5 s
    And robin0's log says "initialized a new cluster" within 20 s

  @ci
  Scenario: a command that fails leaves its data aside and the cluster free
    When node0 is made with
      """
      bootstrap:
        method: mine
        mine: {command: sh -c 'mkdir -p LABDATA; echo half >LABDATA/PG_VERSION; exit 3'}
      """
    And node0 is started
    Then node0's daemon ends with exit code 1 within 30 s
    And node0's log says "removing initialize key after failed attempt to bootstrap the cluster"
    And the DCS key "initialize" is absent within 5 s
    And `test ! -e LABDATA && grep -q half LABDATA.failed/PG_VERSION` succeeds in node0's directory

  Scenario: post_bootstrap that fails
    When node0 is made with
      """
      bootstrap: {post_bootstrap: "sh -c 'exit 4'"}
      """
    And node0 is started
    Then node0's daemon ends with exit code 1 within 60 s
    And node0's log says "returned non-zero code 4"
    And the DCS key "initialize" is absent within 5 s
    And PostgreSQL of node0 is down
    And `test ! -e LABDATA && test -e LABDATA.failed/global/pg_control` succeeds in node0's directory
