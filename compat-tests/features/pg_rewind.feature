@pg
Feature: pg_rewind
  A former primary that has written what nobody else has comes back without a new copy.
  (A guardian would stop the former primary before it writes what is lost.)

  Background:
    Given the guardian is switched off

  @ci
  Scenario: a diverged former primary is rewound
    Given a running cluster of 2 members
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    And a checkpoint is made on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And node0's log says "running pg_rewind from node1"
    And the row "won" is on every member within 10 s
    And the row "lost" is on no member

  Scenario: without pg_rewind, a diverged former primary is copied again when this is allowed
    Given the members are configured with
      """
      bootstrap: {dcs: {postgresql: {use_pg_rewind: false}}}
      postgresql: {remove_data_directory_on_diverged_timelines: true}
      """
    And a running cluster of 2 members
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a row "won" is written on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And node0's log says "reinitializing due to diverged timelines"
    And the row "lost" is on no member

  Scenario: WAL that pg_rewind misses comes from the archive
    Given the members are configured with
      """
      bootstrap:
        dcs:
          postgresql:
            parameters:
              archive_mode: 'on'
              archive_command: "mkdir -p LABROOT/archive && cp %p LABROOT/archive/%f"
              wal_keep_size: 16MB
              max_wal_size: 32MB
              min_wal_size: 32MB
            recovery_conf: {restore_command: cp LABROOT/archive/%f %p}
      """
    And a running cluster of 2 members
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And SQL "SELECT pg_drop_replication_slot('node1')" is run on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    And a row "lost2" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    And a row "lost3" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    And a row "lost4" is written on node0
    Then SQL "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'" gives "0" on node0 within 20 s
    When a checkpoint is made on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    And a checkpoint is made on node1
    And node0 is started
    Then node0 follows node1 within 60 s
    And node0's log says "pg_rewind exit code=0"
    And the row "won" is on every member within 10 s
    And the row "lost" is on no member

  Scenario: a rewind that fails gives way to a new copy when this is allowed
    Given a running cluster of 2 members where node0 has
      """
      postgresql: {bin_dir: LABNODE/bin, remove_data_directory_on_rewind_failure: true}
      """
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    And `rm LABNODE/bin/pg_rewind; printf '#!/bin/sh\ntest "$1" = --help\n' >LABNODE/bin/pg_rewind; chmod 755 LABNODE/bin/pg_rewind` is run in node0's directory
    And node0 is started
    Then node0 follows node1 within 60 s
    And node0's log says "Failed to rewind from healthy primary: node1"
    And node0's log says "remove_data_directory_on_rewind_failure is set. removing..."
    And the row "won" is on every member within 10 s
    And the row "lost" is on no member

  Scenario: a rewind that fails leaves the data alone when nothing else is allowed
    Given a running cluster of 2 members where node0 has
      """
      postgresql: {bin_dir: LABNODE/bin}
      """
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    And `rm LABNODE/bin/pg_rewind; printf '#!/bin/sh\ntest "$1" = --help\n' >LABNODE/bin/pg_rewind; chmod 755 LABNODE/bin/pg_rewind` is run in node0's directory
    And node0 is started
    Then node0's log says "Failed to rewind from healthy primary: node1" within 60 s
    And node0's log says "failed to start postgres" within 30 s
    And `test -s LABDATA/global/pg_control` succeeds in node0's directory
    And node0's log does not say "Removing data directory"
    And node1 leads within 5 s
    When patronictl is called with "reinit batman node0 --force" as soon as nothing else is in progress
    Then node0 follows node1 within 60 s
    And the row "won" is on every member within 10 s

  Scenario: a rewind dies with its daemon, and what it has left is not started
    Given a running cluster of 2 members where node0 has
      """
      postgresql: {bin_dir: LABNODE/bin}
      """
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    # It begins to write as pg_rewind does, and what works on the data is not the wrapper but its child.
    And `rm LABNODE/bin/pg_rewind; printf '#!/bin/sh\ntest "$1" = --help && exit 0\ncp LABDATA/base/1/pg_filenode.map LABDATA/base/1/pg_filenode.map~ && mv LABDATA/base/1/pg_filenode.map~ LABDATA/base/1/pg_filenode.map\nsleep 987\n' >LABNODE/bin/pg_rewind; chmod 755 LABNODE/bin/pg_rewind` is run in node0's directory
    And node0 is started
    Then a process "sleep 987" of node0 is there within 60 s
    When the daemon of node0 is killed
    Then no process "bin/pg_rewind" of node0 is there within 5 s
    And no process "sleep 987" of node0 is there within 5 s
    And no process "patroni: reaper" of node0 is there within 5 s
    When node0 is started
    Then node0's log says "data directory is half rewound: it must not be started, and needs to be reinitialized" within 30 s
    And node0's log does not say "postmaster pid=.*\n.*half rewound"
    And PostgreSQL of node0 is down
    When patronictl is called with "restart batman node0 --force"
    Then node0's log says "Cannot start PostgreSQL: a rewind was broken off" within 30 s
    And PostgreSQL of node0 is down
    When the whole node of node1 is killed
    Then the DCS key "leader" is absent within 40 s
    When node1 is started
    Then node1 leads within 40 s
    When patronictl is called with "reinit batman node0 --force" as soon as nothing else is in progress
    Then node0 follows node1 within 60 s
    And the row "won" is on every member within 10 s
    And the row "lost" is on no member
    When node0 is shut down
    And node0 is started
    Then node0 follows node1 within 60 s

  Scenario: the source dies in the middle of a rewind, and the node makes itself anew when this is allowed
    Given a running cluster of 2 members where node0 has
      """
      postgresql: {bin_dir: LABNODE/bin, remove_data_directory_on_rewind_failure: true}
      """
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    And `rm LABNODE/bin/pg_rewind; printf '#!/bin/sh\ntest "$1" = --help && exit 0\ntest -e LABNODE/torn && exit 1\ntouch LABNODE/torn\n: >LABDATA/base/1/pg_filenode.map\necho "pg_rewind: error: could not fetch remote file"; exit 1\n' >LABNODE/bin/pg_rewind; chmod 755 LABNODE/bin/pg_rewind` is run in node0's directory
    And node0 is started
    Then node0's log says "pg_rewind was broken off half way: the data directory needs to be reinitialized" within 60 s
    And node0 follows node1 within 60 s
    And node0's log says "bootstrapped from leader 'node1'"
    And the row "won" is on every member within 10 s
    And the row "lost" is on no member
    And `test ! -e LABNODE/.data.patroni-unfinished && test ! -e LABDATA/.patroni-unfinished` succeeds in node0's directory

  # The background writer would write a record some seconds later, unless it has already.
  Scenario: a node that was rewound while the leader is idle after a WAL switch is consistent at once
    Given a script "rewind.sh"
      """
      #!/bin/sh
      test "$1" = --help && exec LABBIN/pg_rewind --help
      for word; do test "$before" = --source-server && source=$word; before=$word; done
      query() { LABBIN/psql -Atc "$1" "$source user=postgres password=lab-super"; }
      query CHECKPOINT; query 'SELECT pg_switch_wal()'
      exec LABBIN/pg_rewind "$@"
      """
    And a running cluster of 2 members where node0 has
      """
      postgresql: {bin_name: {pg_rewind: LABROOT/rewind.sh}}
      """
    When the daemon of node0 is killed
    Then node1 leads within 40 s
    When a row "lost" is written on node0
    And a checkpoint is made on node0
    And a row "won" is written on node1
    And a process "background writer" of node1 is frozen within 5 s
    And node0 is started
    Then node0's log says "pg_rewind exit code=0" within 60 s
    And node0 follows node1 within 30 s
    And the row "lost" is on no member
    And a process "background writer" of node1 is thawed within 5 s
