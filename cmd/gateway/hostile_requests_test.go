package main

import "strings"

// from is a whole request to a gateway.
func from(gate, name, request string) attempt { return attempt{name: name, gate: gate, raw: request} }

// carriers are good tokens that came in a way that none may come.
func (s *siege) carriers() []attempt {
	good := forge(hs256Header, onePayload(), hs(testSecret))
	header, query := bearerLine(good), "/v1/ws?access_token="+good
	protocols := "Sec-WebSocket-Protocol: pushgate.v1, bearer." + good
	ws := func(name, target string, lines ...string) attempt {
		return from("one", name, wsRequest(target, lines...))
	}
	events := func(name, target string, lines ...string) attempt {
		return from("one", name, "GET "+target+" HTTP/1.1\r\nHost: gate.example\r\n"+joinLines(lines))
	}
	return []attempt{
		ws("scheme in lower case", "/v1/ws", "authorization: bearer "+good).welcome("alice"),
		ws("subprotocol", "/v1/ws", protocols).welcome("alice"),
		ws("subprotocol without pushgate.v1", "/v1/ws", "Sec-WebSocket-Protocol: bearer."+good).malformed(),
		ws("subprotocol beside another version", "/v1/ws", "Sec-WebSocket-Protocol: pushgate.v2, bearer."+good).malformed(),
		ws("header and query", query, header).malformed(),
		ws("header and subprotocol", "/v1/ws", header, protocols).malformed(),
		ws("query and subprotocol", query, protocols).malformed(),
		ws("query twice", query+"&access_token="+good).malformed(),
		ws("query twice, once escaped", query+"&access%5Ftoken="+good).malformed(),
		ws("subprotocol twice", "/v1/ws", protocols, "Sec-WebSocket-Protocol: bearer."+good).malformed(),
		ws("two Authorization headers", "/v1/ws", header, header).malformed(),
		ws("two Authorization headers, one of them Basic", "/v1/ws", "Authorization: Basic eDp5", header).malformed(),
		ws("no token", "/v1/ws").unauthorized(""),
		ws("empty bearer", "/v1/ws", "Authorization: Bearer").unauthorized(""),
		ws("empty query", "/v1/ws?access_token=").unauthorized(""),
		ws("query in capitals", "/v1/ws?ACCESS_TOKEN="+good).unauthorized(""),
		ws("another scheme", "/v1/ws", "Authorization: Basic "+good).unauthorized(""),
		ws("no scheme", "/v1/ws", "Authorization: "+good).unauthorized(""),
		ws("another header", "/v1/ws", "Proxy-Authorization: Bearer "+good).unauthorized(""),
		ws("cookie where that is off", "/v1/ws", "Cookie: push="+good+"; access_token="+good).unauthorized(""),
		ws("fragment", "/v1/ws#access_token="+good).malformed(),
		from("cookie", "query where that is off", wsRequest("/v1/ws?access_token="+forge(hs256Header, payload(), hs(testSecret)))).unauthorized(""),
		from("cookie", "subprotocol where that is off", wsRequest("/v1/ws",
			"Sec-WebSocket-Protocol: pushgate.v1, bearer."+forge(hs256Header, payload(), hs(testSecret)))).unauthorized(""),
		events("polling without a stream", "/v1/events", header).refused(501, "needs_stream", ""),
		events("polling with a bad token", "/v1/events", bearerLine(forge(hs256Header, onePayload(), junk))).unauthorized("bad_signature"),
		events("polling with a bare token", "/v1/events?access_token="+canary).unauthorized("malformed"),
		events("no upgrade", query).refused(426, "upgrade_required", ""),
	}
}

// subjects are good tokens whose requests ask for more than they grant.
func (s *siege) subjects() []attempt {
	one := func(name, query, subscribe string) attempt {
		var changes []string
		if subscribe != "" {
			changes = []string{"subscribe=" + subscribe}
		}
		return from("one", name, wsRequest("/v1/ws?"+query, bearerLine(forge(hs256Header, onePayload(changes...), hs(testSecret)))))
	}
	red := func(name, query, subscribe string) attempt {
		return from("many", name, wsRequest("/v1/ws?"+query, bearerLine(forge(hs256Header,
			payload(`iss="https://red.example"`, "subscribe="+subscribe), hs(redSecret)))))
	}
	const rooms = `["rooms.*","!rooms.secret"]`
	return []attempt{
		one("its own subject", "subject=user.alice", "").welcome("alice"),
		one("a granted subject", "subject=rooms.1&subject=rooms.2", rooms).welcome("alice"),
		one("another user's subject", "subject=user.bob", "").forbidden(""),
		one("all users' subjects", "subject=user.*", "").forbidden(""),
		one("everything", "subject=%3E", "").forbidden(""),
		one("everything, granted or not", "subject=rooms.1&subject=%3E", rooms).forbidden(""),
		one("wider than the grant", "subject=rooms.%3E", rooms).forbidden(""),
		one("as wide as the grant, but for what is denied", "subject=rooms.*", rooms).forbidden(""),
		one("a denied subject", "subject=rooms.secret", rooms).forbidden(""),
		one("a denied default", "subject=user.alice", `["!user.alice"]`).forbidden(""),
		one("nothing granted", "subject=rooms.1", `[]`).forbidden(""),
		one("a NATS subject below the root", "subject=push.user.alice", "").forbidden(""),
		one("too many subjects", "subject=rooms.1&subject=rooms.2&subject=rooms.3", rooms).forbidden(""),
		one("as many subjects as may be, one of them twice", "subject=rooms.1&subject=rooms.2&subject=rooms.1", rooms).welcome("alice"),
		one("a subject with a space", "subject=rooms.+", rooms).malformed(),
		one("a subject with a NUL", "subject=rooms.%00", rooms).malformed(),
		one("a subject that is not UTF-8", "subject=rooms.%ff", rooms).malformed(),
		one("an empty subject", "subject=", rooms).malformed(),
		red("red's rooms", "subject=red.rooms.1", `["red.rooms.*"]`).welcome("red/alice"),
		red("green's subject", "subject=green.user.alice", `["green.user.alice"]`).forbidden(""),
		red("everybody's subject", "subject=*.user.alice", `["*.user.alice"]`).forbidden(""),
		red("everything", "subject=%3E", `[">"]`).forbidden(""),
		red("all of red, beyond the ceiling", "subject=red.%3E", `["red.>"]`).forbidden(""),
		red("red's other user", "subject=red.user.bob", `["red.user.bob"]`).forbidden(""),
	}
}

// origins are pages, some of which may connect.
func (s *siege) origins() []attempt {
	good := bearerLine(forge(hs256Header, onePayload(), hs(testSecret)))
	page := func(name, origin string, lines ...string) attempt {
		return from("one", name, wsRequest("/v1/ws", append(lines, "Origin: "+origin)...))
	}
	preflight := func(gate, name, target, origin string) attempt {
		return from(gate, name, "OPTIONS "+target+" HTTP/1.1\r\nHost: gate.example\r\nOrigin: "+origin+
			"\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n\r\n")
	}
	all := []attempt{
		page("our page", app, good).welcome("alice"),
		page("our page in capitals", "HTTPS://APP.example", good).welcome("alice"),
		page("our page without a token", app).unauthorized("").readable(app),
		page("our page with a bad token", app, bearerLine(canary)).unauthorized("malformed").readable(app),
		page("our page asking for too much", app, bearerLine(forge(hs256Header, onePayload(`sub="a.b"`), hs(testSecret)))).forbidden("bad_claim").readable(app),
		page("our page with two tokens", app, good, "Sec-WebSocket-Protocol: pushgate.v1, bearer.x").malformed().readable(app),
		page("two origins", app, good, "Origin: "+app).malformed(),
		preflight("one", "preflight", "/v1/events", app).refused(204, "", "").readable(app),
		preflight("one", "preflight of a handshake", "/v1/ws", app).refused(204, "", "").readable(app),
		preflight("one", "preflight of a stranger", "/v1/events", "https://evil.example").origin(),
		preflight("one", "preflight to nowhere", "/v1/else", app).refused(404, "not_found", "").readable(app),
		preflight("cookie", "preflight with credentials", "/v1/events", app).refused(204, "", "").readable(app),
		preflight("cookie", "preflight of a stranger with credentials", "/v1/events", "https://evil.example").origin(),
	}
	for what, origin := range map[string]string{
		"a stranger": "https://evil.example", "null": "null", "no origin at all": "", "a star": "*",
		"http for https": "http://app.example", "another port": "https://app.example:444", "the port written out": "https://app.example:443",
		"a longer host": "https://app.example.evil.test", "a host that ends so": "https://evil-app.example", "a subdomain": "https://x.app.example",
		"a path": "https://app.example/", "a user": "https://app.example@evil.test", "two in one": app + " https://evil.example",
		"a dot more": "https://app.example.", "no scheme": "app.example", "the gateway's own host": "https://gate.example",
	} {
		all = append(all, page("origin: "+what, origin, good).origin())
	}
	return all
}

// cookies are what browsers send along, whoever asks.
func (s *siege) cookies() []attempt {
	good := forge(hs256Header, payload(), hs(testSecret))
	cookie, same, ours := "Cookie: push="+good, "Sec-Fetch-Site: same-origin", "Origin: "+app
	ws := func(name string, lines ...string) attempt { return from("cookie", name, wsRequest("/v1/ws", lines...)) }
	return []attempt{
		ws("our page", cookie, ours).welcome("alice"),
		ws("our page, from another site", cookie, ours, "Sec-Fetch-Site: cross-site").welcome("alice"),
		ws("among others", "Cookie: a=b;push="+good+";  c=d", ours).welcome("alice"),
		ws("no origin, same site", cookie, same).welcome("alice"),
		ws("header", bearerLine(good)).welcome("alice"),
		ws("no origin", cookie).origin(),
		ws("no origin, cross-site", cookie, "Sec-Fetch-Site: cross-site").origin(),
		ws("no origin, same-site", cookie, "Sec-Fetch-Site: same-site").origin(),
		ws("no origin, none", cookie, "Sec-Fetch-Site: none").origin(),
		ws("no origin, two answers", cookie, same, "Sec-Fetch-Site: cross-site").origin(),
		ws("no origin, two answers the other way", cookie, "Sec-Fetch-Site: cross-site", same).origin(),
		ws("a stranger", cookie, "Origin: https://evil.example").origin(),
		ws("a stranger who says same-origin", cookie, same, "Origin: https://evil.example").origin(),
		ws("a sandbox", cookie, "Origin: null").origin(),
		ws("twice in one line", "Cookie: push="+good+"; push="+good, ours).malformed().readable(app),
		ws("twice in two lines", cookie, cookie, ours).malformed().readable(app),
		ws("and a header", cookie, bearerLine(good), ours).malformed().readable(app),
		ws("another name", "Cookie: Push="+good+"; pushy="+good, ours).unauthorized("").readable(app),
		ws("empty", "Cookie: push=", ours).unauthorized("").readable(app),
		ws("a bad token", "Cookie: push="+canary, ours).unauthorized("malformed").readable(app),
	}
}

// heads are requests that two readers could understand in two ways.
func (s *siege) heads() []attempt {
	good := bearerLine(forge(hs256Header, onePayload(), hs(testSecret)))
	whole := wsRequest("/v1/ws", good)
	swap := func(name, old, new string) attempt { return from("one", name, strings.Replace(whole, old, new, 1)) }
	more := func(name string, lines ...string) attempt {
		return from("one", name, wsRequest("/v1/ws", append(lines, good)...))
	}
	return []attempt{
		more("a header nobody knows", "X-Anything: "+canary).welcome("alice"),
		more("two Hosts", "Host: gate.example").malformed(),
		swap("no Host", "Host: gate.example\r\n", "").malformed(),
		swap("a Host with a path", "Host: gate.example", "Host: gate.example/x").malformed(),
		more("Content-Length and Transfer-Encoding", "Content-Length: 4", "Transfer-Encoding: chunked").malformed(),
		more("two Content-Lengths", "Content-Length: 0", "Content-Length: 0").malformed(),
		more("a signed Content-Length", "Content-Length: +0").malformed(),
		more("a body", "Content-Length: 3").malformed(),
		more("a chunked body", "Transfer-Encoding: chunked").malformed(),
		swap("a bare LF", "\r\nHost", "\nHost").malformed(),
		swap("a bare CR", "Host: gate.example", "Host: gate.example\rX: y").malformed(),
		swap("a space before the colon", "Host:", "Host :").malformed(),
		more("a folded line", "X: y", " z").malformed(),
		more("a NUL in a value", "X: \x00").malformed(),
		more("a line without a colon", "X").malformed(),
		swap("HTTP/1.0", "HTTP/1.1", "HTTP/1.0").malformed(),
		swap("HTTP/2", "HTTP/1.1", "HTTP/2.0").malformed(),
		swap("an absolute target", "GET /v1/ws", "GET http://gate.example/v1/ws").malformed(),
		swap("a tab for a space", "GET ", "GET\t").malformed(),
		swap("a small get", "GET ", "get ").refused(405, "method_not_allowed", ""),
		swap("an escaped path", "/v1/ws", "/v1/%77s").refused(404, "not_found", ""),
		more("a second request behind a bad one", "Host: x\r\n\r\nGET /v1/ws HTTP/1.1").malformed(),
		more("65 lines", strings.Split(strings.Repeat("X: y\n", 60), "\n")[:60]...).refused(431, "head_too_large", ""),
	}
}
