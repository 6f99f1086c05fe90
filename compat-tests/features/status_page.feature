Feature: status page
  With restapi.status_page a node has a page for people, at a path of its own.

  @ours
  Scenario: the page is there where it was asked for
    Given a running cluster of 2 members where node1 has
      """
      restapi: {status_page: true}
      tags: {nofailover: true}
      """
    # A replica: what is no path of its own is asked as on a primary.
    Then node1 answers 503 to "/" within 5 s
    And node1 answers 200 to "/status" within 5 s
    And these shell lines succeed
      """
      curl -sS http://127.0.0.1:$REST_node1/status | grep -q '<title>Patroni</title>'
      curl -sSi http://127.0.0.1:$REST_node1/status | grep -q "default-src 'none'"
      curl -sS http://127.0.0.1:$REST_node0/status | grep -q '"role": "primary"'
      """

  @ours
  Scenario: what a browser shows
    Given a running cluster of 2 members where node1 has
      """
      restapi: {status_page: true}
      tags: {nofailover: true}
      """
    And node1 follows node0 within 30 s
    Then a browser shows "as node1 sees it" on the page of node1 within 20 s
    And a browser shows ">streaming<" on the page of node1 within 20 s
    And a browser shows "One timeline, no change of leader." on the page of node1 within 20 s
    And a browser takes pictures of the page of node1
    When patronictl is called with "pause batman --wait"
    Then a browser shows "Paused: nobody takes over when the primary is lost." on the page of node1 within 20 s
    When patronictl is called with "resume batman --wait"
    And the whole node of node0 is killed
    Then a browser shows "Nobody leads: there is no primary." on the page of node1 within 60 s
    And a browser shows "node1 is not promoted: nofailover" on the page of node1 within 60 s
