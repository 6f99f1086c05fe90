Feature: pgBackRest
  The samples of the page on backups, with the program itself: archive, backup, a replica, a cluster as of a moment.

  Background:
    Given a script "pgbackrest.conf"
      """
      [global]
      repo1-path=LABROOT/repo
      repo1-retention-full=2
      log-path=LABROOT
      lock-path=LABROOT/lock
      spool-path=LABROOT/spool
      log-level-console=warn
      start-fast=y

      [demo]
      pg1-path=/given/with/each/call
      """
    And the members are configured with
      """
      postgresql:
        parameters:
          archive_mode: 'on'
          archive_command: pgbackrest --config=LABROOT/pgbackrest.conf --stanza=demo --pg1-path=LABDATA archive-push %p
        recovery_conf:
          restore_command: pgbackrest --config=LABROOT/pgbackrest.conf --stanza=demo --pg1-path=LABDATA archive-get %f "%p"
        create_replica_methods: [pgbackrest, basebackup]
        pgbackrest:
          command: pgbackrest --config=LABROOT/pgbackrest.conf --stanza=demo --pg1-path=LABDATA --delta --type=standby restore
          keep_data: true
          no_params: true
      """
    And a running cluster of 1 member
    When `pgbackrest --config=LABROOT/pgbackrest.conf --stanza=demo --pg1-path=LABDATA --pg1-port=LABPORT --pg1-socket-path=LABROOT stanza-create` is run in node0's directory
    And a row "before" is written on node0
    And `pgbackrest --config=LABROOT/pgbackrest.conf --stanza=demo --pg1-path=LABDATA --pg1-port=LABPORT --pg1-socket-path=LABROOT backup` is run in node0's directory

  @ci @pgbackrest
  Scenario: a replica from the repository, and one that is made again over its old files
    When node1 is added with
      """
      tags: {clonefrom: false}
      """
    Then node1 follows node0 within 60 s
    And node1's log says "replica has been created using pgbackrest"
    And node1's log does not say "pg_basebackup"
    And the row "before" is on node1 within 10 s
    When patronictl is called with "reinit batman node1 --force --wait"
    Then its exit code is 0
    And node1 follows node0 within 60 s
    And node1's log does not say "pg_basebackup"
    # With the leader's WAL in the archive alone.
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then its exit code is 0
    And node0 follows node1 within 60 s

  @pgbackrest
  Scenario: a new cluster as of a moment
    When SQL "SELECT pg_create_restore_point('here')" is run on node0
    And a row "after" is written on node0
    And SQL "SELECT pg_switch_wal()" is run on node0
    Then SQL "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'" gives "0" on node0 within 20 s
    When robin0 is made in the cluster robin with
      """
      bootstrap:
        method: pgbackrest
        pgbackrest:
          command: pgbackrest --config=LABROOT/pgbackrest.conf --stanza=demo --pg1-path=LABDATA --type=name --target=here --target-action=promote restore
          keep_existing_recovery_conf: true
          no_params: true
      """
    And robin0 starts
    Then robin0 answers 200 to "/primary" within 60 s
    And the row "before" is on robin0 within 5 s
    And SQL "SELECT count(*) FROM lab_rows WHERE name = 'after'" gives "0" on robin0 within 5 s
    And robin0's log says "initialized a new cluster" within 20 s
