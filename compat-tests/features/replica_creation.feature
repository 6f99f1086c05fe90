@pg
Feature: making a replica
  By pg_basebackup or by commands of the user's, and what becomes of what is there.

  @ci
  Scenario: the methods are tried in order, with their arguments
    Given a script "copy.sh"
      """
      #!/bin/sh
      echo "$@" >LABROOT/copy.args
      for argument; do
        case "$argument" in
          --datadir=*) data=${argument#--datadir=} ;;
          --connstring=*) source=${argument#--connstring=} ;;
        esac
      done
      exec LABBIN/pg_basebackup -D "$data" -X stream -c fast -d "$source"
      """
    And a running cluster of 1 member
    When node1 is added with
      """
      postgresql:
        create_replica_methods: [broken, mine, basebackup]
        broken: {command: sh -c 'exit 7'}
        mine: {command: LABROOT/copy.sh, level: 3}
      """
    Then node1 follows node0 within 40 s
    And node1's log says "Error creating replica using method broken: sh -c 'exit 7' exited with code=7"
    And node1's log says "replica has been created using mine"
    And node1's log says "bootstrapped from leader 'node0'"
    And `grep -q -- '^--level=3 --scope=batman --role=replica --datadir=LABDATA --connstring=' LABROOT/copy.args` succeeds in node1's directory
    And `! grep -q lab-repl LABROOT/copy.args` succeeds in node1's directory

  Scenario: without a leader, by a method that needs none
    Given a running cluster of 1 member
    When `pg_basebackup -D LABROOT/backup -h 127.0.0.1 -p LABPORT -U replicator -X stream -c fast` is run in node0's directory
    And node0 is shut down
    And node1 is added with
      """
      postgresql:
        create_replica_methods: [basebackup, mine]
        mine: {command: cp -a LABROOT/backup LABDATA, no_leader: true, no_params: true}
      """
    Then node1's log says "trying to bootstrap (without leader)" within 20 s
    And node1's log says "replica has been created using mine" within 20 s
    And node1's log says "bootstrapped (without leader)" within 5 s
    And node1's log does not say "pg_basebackup"
    When node0 is started
    Then some member leads within 40 s
    And every other member follows the leader within 40 s

  Scenario: keep_data works on what is there
    Given a running cluster of 2 members where node1 has
      """
      postgresql:
        create_replica_methods: [mine, basebackup]
        mine: {command: "sh -c 'test ! -e LABDATA/PG_VERSION || touch LABNODE/found; exit 1'", keep_data: true, no_params: true}
        basebackup: [checkpoint: fast]
      """
    When patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 0
    And node1 follows node0 within 40 s
    And node1's log says "Leaving data directory uncleaned"
    And node1's log says "replica has been created using basebackup"

  @ci
  Scenario: a copy that was broken off begins again
    Given a script "copy.sh"
      """
      #!/bin/sh
      case "$1" in --version|--help) exec LABBIN/pg_basebackup "$1" ;; esac
      test -e LABROOT/broken && exec LABBIN/pg_basebackup "$@"
      for argument; do case "$argument" in --pgdata=*) data=${argument#--pgdata=} ;; esac; done
      mkdir -p "$data/global"; echo 15 >"$data/PG_VERSION"
      touch LABROOT/broken
      sleep 988
      """
    And a running cluster of 1 member
    When node1 is added with
      """
      postgresql: {bin_name: {pg_basebackup: LABROOT/copy.sh}}
      """
    Then a process "sleep 988" of node1 is there within 30 s
    And `test -e LABROOT/broken` succeeds in node1's directory within 5 s
    When the whole node of node1 is killed
    And node1 is started
    Then node1 follows node0 within 40 s
    And node1's log does not say "system ID is invalid"

  Scenario: a copy by a method that keeps what is there begins again as well
    Given a script "mine.sh"
      """
      #!/bin/sh
      for argument; do
        case "$argument" in
          --datadir=*) data=${argument#--datadir=} ;;
          --connstring=*) source=${argument#--connstring=} ;;
        esac
      done
      if test -e LABROOT/broken; then
        rm -rf "$data"
        exec LABBIN/pg_basebackup -D "$data" -X stream -c fast -d "$source"
      fi
      LABBIN/pg_basebackup -D "$data" -X stream -c fast -d "$source"
      : >"$data/global/pg_filenode.map"
      touch LABROOT/broken
      sleep 989
      """
    And a running cluster of 1 member
    When node1 is added with
      """
      postgresql:
        create_replica_methods: [mine]
        mine: {command: LABROOT/mine.sh, keep_data: true}
      """
    Then `test -e LABROOT/broken` succeeds in node1's directory within 30 s
    When the daemon of node1 is killed
    Then no process "sleep 989" of node1 is there within 5 s
    When node1 is started
    Then node1 follows node0 within 40 s
    And node1's log does not say "could not open|invalid data in file"

  Scenario: a link in place of the data directory stays, and what it, its WAL and its tablespaces lead to is emptied
    Given a running cluster of 1 member
    When `mkdir LABROOT/space` is run in node0's directory
    And SQL "CREATE TABLESPACE space LOCATION 'LABROOT/space'" is run on node0
    And node1 is made with
      """
      postgresql:
        data_dir: LABNODE/link
        basebackup: [waldir: LABNODE/wal, tablespace-mapping: LABROOT/space=LABNODE/space]
      """
    And `mkdir -m 700 LABNODE/real && ln -s LABNODE/real LABNODE/link` is run in node1's directory
    And node1 starts
    Then node1 follows node0 within 40 s
    When `touch LABNODE/space/old LABNODE/wal/old LABNODE/real/old` is run in node1's directory
    And patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 0
    And node1 follows node0 within 40 s
    And `test -L LABNODE/link && test -e LABNODE/real/PG_VERSION && test "$(readlink LABNODE/real/pg_wal)" = LABNODE/wal` succeeds in node1's directory
    And `readlink LABNODE/real/pg_tblspc/* | grep -q LABNODE/space && ! ls LABNODE/space/old LABNODE/wal/old LABNODE/real/old` succeeds in node1's directory
    And node1's log does not say "Error when fetching backup"
    And every other member follows the leader within 40 s

  Scenario: a wait for a copy ends with its failure, and those who force one at once all get theirs
    Given a script "copy.sh"
      """
      #!/bin/sh
      test "$1" != --version && test -e LABROOT/fail && exit 9
      exec LABBIN/pg_basebackup "$@"
      """
    And a running cluster of 1 member
    When node1 is added with
      """
      postgresql: {bin_name: {pg_basebackup: LABROOT/copy.sh}}
      """
    Then node1 follows node0 within 40 s
    When 4 reinitializes of node1 are forced at once
    And 4 reinitializes of node1 are forced at once
    Then node1 follows node0 within 60 s
    When `touch LABROOT/fail` is run in node1's directory
    And patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 1
    And its output contains "Reinitialize has failed on: node1 (failed to bootstrap from leader 'node0'); see the log there"
    When `rm LABROOT/fail` is run in node1's directory
    Then node1 follows node0 within 60 s

  Scenario: a method under the old name, and a trigger file that came with the copy
    Given PostgreSQL 15
    And a running cluster of 1 member
    When `pg_basebackup -D LABROOT/backup -h 127.0.0.1 -p LABPORT -U replicator -X stream -c fast && touch LABROOT/backup/promote-me` is run in node0's directory
    And node0 is shut down
    And node1 is added with
      """
      postgresql:
        create_replica_method: [mine]
        mine: {command: cp -a LABROOT/backup LABDATA, no_leader: true, no_params: true}
        recovery_conf: {promote_trigger_file: promote-me}
      """
    Then node1's log says "trying to bootstrap (without leader)" within 20 s
    And node1's log says "bootstrapped (without leader)" within 20 s
    And `test ! -e LABDATA/promote-me` succeeds in node1's directory within 5 s
    When node0 is started
    Then some member leads within 40 s
    And every other member follows the leader within 40 s

  Scenario: tablespaces and a WAL directory of their own
    Given a running cluster of 1 member
    When `mkdir LABROOT/space` is run in node0's directory
    And SQL "CREATE TABLESPACE space LOCATION 'LABROOT/space'" is run on node0
    And node1 is made with
      """
      postgresql:
        basebackup: [waldir: LABNODE/wal, tablespace-mapping: LABROOT/space=LABNODE/space]
      """
    And node1 starts
    Then node1 follows node0 within 40 s
    When a row "one" is written on node0
    Then the row "one" is on every member within 10 s
    And `test "$(readlink LABDATA/pg_wal)" = LABNODE/wal && readlink LABDATA/pg_tblspc/* | grep -q LABNODE/space` succeeds in node1's directory
    When patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 0
    And node1 follows node0 within 40 s
    And node1's log says "Removing WAL directory: "
    And node1's log says "Removing user defined tablespace directory: "
    And `test "$(readlink LABDATA/pg_wal)" = LABNODE/wal && readlink LABDATA/pg_tblspc/* | grep -q LABNODE/space` succeeds in node1's directory

  @ours
  Scenario: a data directory that is a link to a disk which is mounted later
    Given a running cluster of 1 member
    When node1 is made with
      """
      postgresql: {data_dir: LABNODE/link}
      """
    And `ln -s LABNODE/mount/data LABNODE/link` is run in node1's directory
    And node1 starts
    Then node1's log says "data directory is not accessible: [Errno 2] No such file or directory" within 20 s
    When `mkdir -p LABNODE/mount && mkdir -m 700 LABNODE/mount/data` is run in node1's directory
    Then node1 follows node0 within 40 s
    And `test -L LABNODE/link && test -s LABNODE/mount/data/PG_VERSION` succeeds in node1's directory

  Scenario: a new copy from the leader, though another member has clonefrom
    Given a running cluster of 2 members where node1 has
      """
      tags: {clonefrom: true}
      """
    When node2 is added with
      """
      tags: {}
      """
    Then node2 follows node0 within 40 s
    And node2's log says "bootstrapped from replica 'node1'"
    When patronictl is called with "reinit batman node2 --from-leader --force --wait"
    Then its exit code is 0
    And node2's log says "bootstrapped from leader 'node0'" within 10 s
    And node2 follows node0 within 40 s

  Scenario: a killed pg_basebackup is tried again
    Given a running cluster of 1 member
    When node1 is added with
      """
      log: {level: DEBUG}
      postgresql: {basebackup: [max-rate: 8M, checkpoint: fast]}
      """
    And a process "pg_basebackup --pgdata=" of node1 is killed within 30 s
    Then node1's log says "Error when fetching backup: pg_basebackup exited with code=-9" within 20 s
    And node1's log says "Trying again in 5 seconds" within 5 s
    And node1's log says "pg_basebackup', '--pgdata="
    And node1 follows node0 within 60 s

  @ours
  Scenario: the progress of a copy is in the log
    Given a running cluster of 1 member
    When node1 is added with
      """
      postgresql: {basebackup: [max-rate: 8M, checkpoint: fast]}
      """
    Then node1 follows node0 within 60 s
    And `grep -Eq 'base backup: [0-9.]+ MB of [0-9.]+ MB copied \([0-9]+%\), [0-9.]+ [kM]B/s' patroni.log` succeeds in node1's directory
