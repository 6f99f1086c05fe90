@pg
Feature: hooks, callbacks, timeouts
  What runs beside PostgreSQL, in which order, and how long PostgreSQL may take.

  Scenario: before_stop and pre_promote run at their time
    Given a script "note.sh"
      """
      #!/bin/sh
      echo "$@" >>LABROOT/notes
      """
    And the members are configured with
      """
      postgresql:
        before_stop: LABROOT/note.sh stop
        pre_promote: LABROOT/note.sh promote
        callbacks: {on_role_change: LABROOT/note.sh}
      """
    And a running cluster of 2 members
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And node0 follows node1 within 40 s
    And `grep -qx 'on_role_change replica batman' LABROOT/notes` succeeds in node0's directory within 10 s
    And `test "$(grep -nx stop LABROOT/notes | head -1 | cut -d: -f1)" -lt "$(grep -nx promote LABROOT/notes | head -1 | cut -d: -f1)"` succeeds in node0's directory
    And `test "$(grep -nx promote LABROOT/notes | head -1 | cut -d: -f1)" -lt "$(grep -nx 'on_role_change primary batman' LABROOT/notes | head -1 | cut -d: -f1)"` succeeds in node0's directory

  # Alone: the script of a callback is killed by the next one, and on_role_change follows at once.
  Scenario: on_stop is told the role of that moment
    Given a script "note.sh"
      """
      #!/bin/sh
      echo "$@" >>LABROOT/notes
      """
    And the members are configured with
      """
      postgresql:
        callbacks: {on_stop: LABROOT/note.sh}
      """
    And a running cluster of 2 members
    When patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 20 s
    And `head -1 LABROOT/notes | grep -qxE 'on_stop (demoted|primary) batman'` succeeds in node0's directory within 20 s

  Scenario: pre_promote refuses
    Given a running cluster of 2 members where node1 has
      """
      postgresql: {pre_promote: /bin/false}
      """
    When node0 is shut down
    Then node1's log says "pre_promote script `/bin/false` exited with 1" within 30 s
    And node1's log says "Promotion cancelled because the pre-promote script failed" within 10 s
    And the DCS key "leader" is absent within 10 s
    And PostgreSQL of node1 takes no writes within 5 s
    When node0 is started
    Then node0 leads within 40 s
    And node1 follows node0 within 40 s

  Scenario: a callback that hangs is killed by the next
    Given a script "hang.sh"
      """
      #!/bin/sh
      file=$1; shift
      echo "$@" >>"$file"
      case "$1" in on_start) exec sleep 4321 ;; esac
      """
    And the members are configured with
      """
      postgresql:
        callbacks: {on_start: LABROOT/hang.sh LABNODE/callbacks, on_restart: LABROOT/hang.sh LABNODE/callbacks}
      """
    And a running cluster of 1 member
    Then the callbacks of node0 are "on_start primary batman" within 10 s
    And a process "sleep 4321" of node0 is there within 5 s
    When patronictl is called with "restart batman node0 --force"
    Then the callbacks of node0 are "on_start primary batman, on_restart primary batman" within 20 s
    And no process "sleep 4321" of node0 is there within 5 s

  Scenario: a scheduled restart
    Given a running cluster of 1 member
    When the postmasters are remembered
    And a restart of node0 is posted for 4 s from now
    Then the DCS key "members/node0" matches "scheduled_restart.:\{.*schedule" within 5 s
    And node0's log says "restart initiated" within 20 s
    And the callbacks of node0 contain "on_restart primary batman" within 20 s
    And node0 leads within 10 s

  Scenario: primary_start_timeout 0 fails over after a crash
    Given the members are configured with
      """
      bootstrap: {dcs: {primary_start_timeout: 0}}
      """
    And a running cluster of 2 members
    When a row "kept" is written on node0
    Then the row "kept" is on every member within 10 s
    When the postmaster of node0 is killed
    Then node1 leads within 30 s
    And node0's log says "stopped PostgreSQL to fail over after a crash" within 10 s
    And node0 follows node1 within 60 s
    And the row "kept" is on every member within 10 s

  Scenario: primary_stop_timeout ends a stop that takes too long
    Given the members are configured with
      """
      bootstrap: {dcs: {synchronous_mode: true, primary_stop_timeout: 3}}
      """
    And a running cluster of 2 members
    Then the DCS key "sync" matches "node1" within 20 s
    When SQL "CREATE DATABASE stuck" is run on node0
    And `psql -h LABROOT -p LABPORT -U postgres -d stuck -c 'SELECT pg_sleep(600)' >/dev/null 2>&1 &` is run in node0's directory
    And a process "postgres stuck" of node0 is frozen within 10 s
    And patronictl is called with "switchover batman --leader node0 --candidate node1 --force"
    Then node1 leads within 40 s
    And node0's log says "Timeout during postmaster stop, aborting Postgres." within 10 s
    And node0 follows node1 within 60 s
