package main

import (
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

const hs256Header = `{"alg":"HS256","typ":"JWT"}`

// onePayload is a good payload for the gateway "one".
func onePayload(changes ...string) string {
	return payload(append([]string{`iss="https://id.example"`, `aud="push"`}, changes...)...)
}

func one(name, token string) attempt { return attempt{name: name, gate: "one", token: token} }

// signed is a token for "one" that is well signed, whatever it says.
func signed(name string, changes ...string) attempt {
	return one(name, forge(hs256Header, onePayload(changes...), hs(testSecret)))
}

// header is one with a header of its own, well signed.
func header(name, members string) attempt {
	return one(name, forge(`{`+members+`}`, onePayload(), hs(testSecret)))
}

// signatures are tokens that nobody we trust has signed.
func (s *siege) signatures(t *testing.T) []attempt {
	good := forge(hs256Header, onePayload(), hs(testSecret))
	other := forge(hs256Header, onePayload(`sub="bob"`), hs(testSecret))
	body, sig := good[:strings.LastIndex(good, ".")], good[strings.LastIndex(good, ".")+1:]
	rawSig, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), rawSig...)
	flipped[7] ^= 1
	last := strings.Index(alphabet, sig[len(sig)-1:])

	pem := func(name, header string, sign func(string) string) attempt {
		return attempt{name: name, gate: "pem", token: forge(header, payload(), sign)}
	}
	der := func(signed string) string {
		r, s := signES256(t, s.ec, signed)
		b, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r[:]), new(big.Int).SetBytes(s[:])})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return []attempt{
		one("good", good).welcome("alice"),
		one("signature stripped", body+".").unauthorized("malformed"),
		one("signature and dot stripped", body).unauthorized("malformed"),
		one("signature of another token", body+"."+other[strings.LastIndex(other, ".")+1:]).unauthorized("bad_signature"),
		one("signature with a bit flipped", body+"."+b64(string(flipped))).unauthorized("bad_signature"),
		one("signature truncated", body+"."+b64(string(rawSig[:16]))).unauthorized("bad_signature"),
		one("signature with a byte more", body+"."+b64(string(rawSig)+"\x00")).unauthorized("bad_signature"),
		one("signature spelled otherwise", body+"."+sig[:len(sig)-1]+alphabet[last+1:last+2]).unauthorized("malformed"),
		one("payload exchanged", strings.Split(good, ".")[0]+"."+b64(onePayload(`sub="bob"`))+"."+sig).unauthorized("bad_signature"),
		one("header exchanged", b64(`{"typ":"JWT","alg":"HS256"}`)+"."+strings.Split(good, ".")[1]+"."+sig).unauthorized("bad_signature"),
		one("foreign secret", forge(hs256Header, onePayload(), hs(strings.Repeat("x", 32)))).unauthorized("bad_signature"),
		one("empty secret", forge(hs256Header, onePayload(), hs(""))).unauthorized("bad_signature"),
		one("junk for a signature", forge(hs256Header, onePayload(), junk)).unauthorized("bad_signature"),
		one("the same secret with HS512", forge(`{"alg":"HS512"}`, onePayload(), hs512(testSecret))).unauthorized("algorithm"),
		one("RS256 where there is only a secret", forge(`{"alg":"RS256"}`, onePayload(), rs256(t, s.rsa))).unauthorized("algorithm"),
		one("good once more, out of the cache", good).welcome("alice"),

		pem("good RS256", `{"alg":"RS256"}`, rs256(t, s.rsa)).welcome("alice"),
		pem("good ES256", `{"alg":"ES256"}`, es256(t, s.ec)).welcome("alice"),
		pem("public key as a secret", `{"alg":"HS256"}`, hs(s.rsaPEM)).unauthorized("algorithm"),
		pem("public key as a secret, trimmed", `{"alg":"HS256"}`, hs(strings.TrimSpace(s.rsaPEM))).unauthorized("algorithm"),
		pem("public key as a secret, said to be RS256", `{"alg":"RS256"}`, hs(s.rsaPEM)).unauthorized("bad_signature"),
		pem("HMAC said to be ES256", `{"alg":"ES256"}`, hs("")).unauthorized("bad_signature"),
		pem("RSA said to be ES256", `{"alg":"ES256"}`, rs256(t, s.rsa)).unauthorized("bad_signature"),
		pem("ECDSA said to be RS256", `{"alg":"RS256"}`, es256(t, s.ec)).unauthorized("bad_signature"),
		pem("PS256, which nobody named", `{"alg":"PS256"}`, rs256(t, s.rsa)).unauthorized("algorithm"),
		pem("a signature in DER", `{"alg":"ES256"}`, der).unauthorized("bad_signature"),
		pem("a signature of zeros", `{"alg":"ES256"}`, func(string) string { return strings.Repeat("\x00", 64) }).unauthorized("bad_signature"),
		pem("a foreign key", `{"alg":"ES256"}`, es256(t, newEC(t))).unauthorized("bad_signature"),
		pem("a key of its own in the header", `{"alg":"ES256","jwk":`+jwk(t, &s.fetched.PublicKey, "k1")+`}`, es256(t, s.fetched)).unauthorized("bad_signature"),
		pem("none", `{"alg":"none"}`, junk).unauthorized("algorithm"),
	}
}

// alphabet is base64url's, from 0 to 63.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// headers are tokens whose header asks for something.
func (s *siege) headers(t *testing.T) []attempt {
	none := func(name, alg string) attempt {
		return one(name, forge(`{"alg":`+alg+`}`, onePayload(), junk))
	}
	stranger := newEC(t)
	lured := func(name, member string) attempt {
		return one(name, forge(`{"alg":"HS256",`+member+`}`, onePayload(), hs("the stranger's secret, of 32 bytes")))
	}
	bait := s.bait + "/" + canary
	return []attempt{
		none("alg none", `"none"`).unauthorized("algorithm"),
		none("alg None", `"None"`).unauthorized("algorithm"),
		none("alg NONE", `"NONE"`).unauthorized("algorithm"),
		none("alg none, escaped", `"n\u006fne"`).unauthorized("algorithm"),
		none("alg empty", `""`).unauthorized("algorithm"),
		none("alg null", `null`).unauthorized("algorithm"),
		one("alg none without a signature", b64(`{"alg":"none"}`)+"."+b64(onePayload())+".").unauthorized("malformed"),
		header("alg missing", `"typ":"JWT"`).unauthorized("algorithm"),
		header("alg in lower case", `"alg":"hs256"`).unauthorized("algorithm"),
		header("alg a list", `"alg":["HS256"]`).unauthorized("algorithm"),
		header("alg twice", `"alg":"HS256","alg":"none"`).unauthorized("malformed"),
		header("alg twice, once escaped", `"alg":"HS256","\u0061lg":"HS256"`).unauthorized("malformed"),
		header("Alg beside alg", `"alg":"HS256","Alg":"none"`).welcome("alice"),
		header("crit", `"alg":"HS256","crit":["exp"]`).unauthorized("crit"),
		header("crit, empty", `"alg":"HS256","crit":[]`).unauthorized("crit"),
		header("crit, escaped", `"alg":"HS256","cr\u0069t":["exp"]`).unauthorized("crit"),
		header("b64 false", `"alg":"HS256","b64":false`).unauthorized("crit"),
		header("b64 true", `"alg":"HS256","b64":true`).unauthorized("crit"),
		header("jku beside a good signature", fmt.Sprintf(`"alg":"HS256","jku":%q`, bait)).welcome("alice"),

		lured("jwk", `"jwk":{"kty":"oct","k":"`+b64("the stranger's secret, of 32 bytes")+`"}`).unauthorized("bad_signature"),
		lured("jku", fmt.Sprintf(`"jku":%q`, bait)).unauthorized("bad_signature"),
		lured("x5u", fmt.Sprintf(`"x5u":%q`, bait)).unauthorized("bad_signature"),
		lured("x5c", `"x5c":["`+base64.StdEncoding.EncodeToString([]byte(canary))+`"]`).unauthorized("bad_signature"),
		lured("kid that is a URL", fmt.Sprintf(`"kid":%q`, bait)).unauthorized("bad_signature"),
		{name: "jwk and jku", gate: "many", token: forge(
			fmt.Sprintf(`{"alg":"ES256","kid":"k1","jku":%q,"jwk":%s}`, bait, jwk(t, &stranger.PublicKey, "k1")),
			payload(`iss="https://blue.example"`), es256(t, stranger)), status: 401, code: "unauthorized", reason: "bad_signature"},

		one("kid that is a file", forge(`{"alg":"HS256","kid":"../../../../dev/null"}`, onePayload(), hs(""))).unauthorized("bad_signature"),
		one("kid that is SQL", forge(`{"alg":"HS256","kid":"x' UNION SELECT 'key'; --"}`, onePayload(), hs("key"))).unauthorized("bad_signature"),
		header("kid with a NUL", `"alg":"HS256","kid":"k\u0000`+canary+`"`).unauthorized("malformed"),
		header("kid with a line break", `"alg":"HS256","kid":"k\r\n`+canary+`"`).unauthorized("malformed"),
		header("kid beyond ASCII", `"alg":"HS256","kid":"klé"`).unauthorized("malformed"),
		header("kid a number", `"alg":"HS256","kid":1`).unauthorized("malformed"),
		header("kid null", `"alg":"HS256","kid":null`).unauthorized("malformed"),
		header("kid empty", `"alg":"HS256","kid":""`).unauthorized("malformed"),
		header("kid of 129 bytes", `"alg":"HS256","kid":"`+strings.Repeat("k", 129)+`"`).unauthorized("malformed"),
		header("kid twice", `"alg":"HS256","kid":"a","kid":"a"`).unauthorized("malformed"),
		{name: "kid of 10 KB", gate: "nested", token: forge(`{"alg":"HS256","kid":"`+strings.Repeat(canary, 500)+`"}`,
			nestedPayload(), hs(testSecret)), status: 401, code: "unauthorized", reason: "malformed"},
	}
}

// claims are tokens that are well signed and say what none may.
func (s *siege) claims() []attempt {
	all := []attempt{
		signed("exp missing", `exp=`).unauthorized("lifetime"),
		signed("exp null", `exp=null`).unauthorized("malformed"),
		signed("exp a string", `exp="`+unixIn(time.Hour)+`"`).unauthorized("malformed"),
		signed("exp true", `exp=true`).unauthorized("malformed"),
		signed("exp 1e400", `exp=1e400`).unauthorized("malformed"),
		signed("exp beyond 64 bits", `exp=99999999999999999999`).unauthorized("malformed"),
		signed("exp beyond what a float holds", `exp=9007199254740993`).unauthorized("malformed"),
		signed("exp in the year 9999", `exp=253402300799`).unauthorized("lifetime"),
		signed("exp in two days", `exp=`+unixIn(48*time.Hour)).unauthorized("lifetime"),
		signed("exp negative", `exp=-1`).unauthorized("expired"),
		signed("exp a minute ago", `exp=`+unixIn(-time.Minute)).unauthorized("expired"),
		signed("exp twice", `+"exp":`+unixIn(time.Hour)).unauthorized("malformed"),
		signed("exp with a fraction", `exp=`+unixIn(time.Hour)+`.5`).welcome("alice"),
		signed("Exp beside exp", `+"Exp":1`).welcome("alice"),
		signed("nbf in the future", `nbf=`+unixIn(time.Hour)).unauthorized("not_yet"),
		signed("nbf a string", `nbf="0"`).unauthorized("malformed"),
		signed("iat in the future", `iat=`+unixIn(time.Hour)).unauthorized("not_yet"),
		signed("iat null", `iat=null`).unauthorized("malformed"),
		signed("iat long before exp", `iat=`+unixIn(-24*time.Hour)).unauthorized("lifetime"),
		signed("iat negative", `iat=-1`).unauthorized("lifetime"),
		signed("iat missing", `iat=`).welcome("alice"),

		signed("aud of others", `aud="others"`).unauthorized("audience"),
		signed("aud in capitals", `aud="PUSH"`).unauthorized("audience"),
		signed("aud missing", `aud=`).unauthorized("audience"),
		signed("aud an empty list", `aud=[]`).unauthorized("audience"),
		signed("aud a list of others", `aud=["others","push "]`).unauthorized("audience"),
		signed("aud a list with ours", `aud=["others","push"]`).welcome("alice"),
		signed("aud a number", `aud=1`).unauthorized("malformed"),
		signed("aud null", `aud=null`).unauthorized("malformed"),
		signed("aud a list with a number", `aud=["push",1]`).unauthorized("malformed"),
		signed("aud an object", `aud={"push":true}`).unauthorized("malformed"),
		signed("iss of another", `iss="https://evil.example/`+canary+`"`).unauthorized("issuer"),
		signed("iss with a slash more", `iss="https://id.example/"`).unauthorized("issuer"),
		signed("iss missing", `iss=`).unauthorized("issuer"),
		signed("iss a list", `iss=["https://id.example"]`).unauthorized("malformed"),
		signed("iss twice", `+"iss":"https://id.example"`).unauthorized("malformed"),

		signed("sub missing", `sub=`).forbidden("bad_claim"),
		signed("sub twice", `+"sub":"bob"`).unauthorized("malformed"),
		signed("sub twice, once escaped", `+"s\u0075b":"bob"`).unauthorized("malformed"),
		signed("Sub and SUB beside sub", `+"Sub":"bob","SUB":"bob"`).welcome("alice"),
		signed("sub a number", `sub=42`).welcome("42"),
		signed("sub of 128 bytes", `sub="`+strings.Repeat("a", 128)+`"`).welcome(strings.Repeat("a", 128)),
		signed("sub in invalid UTF-8", "sub=\"alice\xff\"").unauthorized("malformed"),
		signed("sub in overlong UTF-8", "sub=\"alice\xc0\xae\"").unauthorized("malformed"),
		signed("other claims with anything in them", `x={"sub":"bob","a":[1e400,{"exp":null}]}`, "y="+strings.Repeat("[", 500)+strings.Repeat("]", 500)).welcome("alice"),
	}
	for what, sub := range map[string]string{
		"empty": `""`, "null": `null`, "true": `true`, "a list": `["alice"]`, "an object": `{"sub":"alice"}`,
		"with a dot": `"a.` + canary + `"`, "with an escaped dot": `"a\u002e` + canary + `"`,
		"a wildcard": `"*"`, "another wildcard": `">"`, "with a wildcard in it": `"` + canary + `*"`,
		"with a space": `"a ` + canary + `"`, "with a tab": `"a\t` + canary + `"`, "with a line break": `"a\n` + canary + `"`,
		"with a NUL": `"alice\u0000"`, "with DEL": `"alice\u007f"`, "with a C1 control": `"alice\u0085"`,
		"with a no-break space": `"alice\u00a0"`, "with a byte order mark": `"alice\ufeff"`, "with a line separator": `"alice\u2028"`,
		"of 129 bytes": `"` + strings.Repeat("a", 129) + `"`, "a lone surrogate": `"alice\ud800"`, "with U+FFFD": `"alice\ufffd"`,
		"1e3": `1e3`, "1.0": `1.0`, "-0": `-0`,
	} {
		all = append(all, signed("sub "+what, "sub="+sub).forbidden("bad_claim"))
	}
	for what, claim := range map[string]string{
		"a string": `"rooms.>"`, "null": `null`, "an object": `{"rooms":true}`, "with a number": `["rooms.1",1]`, "with null": `[null]`,
		"with an empty token": `["rooms..1"]`, "with an empty pattern": `[""]`, "with a bare denial": `["rooms.>","!"]`,
		"with a double denial": `["!!rooms.1","!*!"," "]`, "with > in the middle": `["rooms.>.1"]`, "with a space": `["rooms. "]`,
		"with a list": `[["rooms.1"]]`, "with a pattern of 256 bytes": `["` + strings.Repeat("r.", 127) + `rr"]`,
	} {
		all = append(all, signed("subscribe "+what, "subscribe="+claim).forbidden("bad_claim"))
	}
	return all
}

// nestedPayload is a good payload for the gateway "nested".
func nestedPayload(changes ...string) string {
	return payload(append([]string{`org={"id":"acme"}`, `rooms=["1","2"]`}, changes...)...)
}

// templates are tokens with claims from which subjects are made.
func (s *siege) templates() []attempt {
	nested := func(name string, changes ...string) attempt {
		return attempt{name: name, gate: "nested", token: forge(hs256Header, nestedPayload(changes...), hs(testSecret))}
	}
	list := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(`"r%d"`, i)
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	return []attempt{
		nested("good").welcome("alice"),
		nested("an empty list", "rooms=[]").welcome("alice"),
		nested("a number in the list", "rooms=[7]").welcome("alice"),
		nested("62 rooms", "rooms="+list(62)).welcome("alice"),
		nested("63 rooms: one subject too many", "rooms="+list(63)).forbidden("bad_claim"),
		nested("65 rooms", "rooms="+list(65)).forbidden("bad_claim"),
		nested("no org", "org=").forbidden("bad_claim"),
		nested("a flat org.id", "org=", `+"org.id":"acme"`).forbidden("bad_claim"),
		nested("org a string", `org="acme"`).forbidden("bad_claim"),
		nested("org a list", `org=[{"id":"acme"}]`).forbidden("bad_claim"),
		nested("org.id null", `org={"id":null}`).forbidden("bad_claim"),
		nested("org.id a wildcard", `org={"id":"*"}`).forbidden("bad_claim"),
		nested("org.id >", `org={"id":">"}`).forbidden("bad_claim"),
		nested("org.id with a dot", `org={"id":"acme.`+canary+`"}`).forbidden("bad_claim"),
		nested("org.id empty", `org={"id":""}`).forbidden("bad_claim"),
		nested("org.id twice", `org={"id":"acme","id":"evil"}`).forbidden("bad_claim"),
		nested("org.id twice, once escaped", `org={"id":"acme","\u0069d":"evil"}`).forbidden("bad_claim"),
		nested("org twice", `+"org":{"id":"evil"}`).unauthorized("malformed"),
		nested("a list in the list", `rooms=[["1"]]`).forbidden("bad_claim"),
		nested("a wildcard in the list", `rooms=["1",">"]`).forbidden("bad_claim"),
		nested("an object for a list", `rooms={"1":"2"}`).forbidden("bad_claim"),
	}
}

// forms are things that are no token at all, or none of ours.
func (s *siege) forms() []attempt {
	good := forge(hs256Header, onePayload(), hs(testSecret))
	parts := strings.Split(good, ".")
	query := func(name, token string) attempt {
		return attempt{name: name, gate: "one", raw: wsRequest("/v1/ws?access_token=" + token)}
	}
	whole := func(name, payload string) attempt { return one(name, forge(hs256Header, payload, hs(testSecret))) }
	// sized is a good token of exactly that many bytes.
	sized := func(n int) string {
		for pad := 0; ; pad++ {
			rough := (n-len(good))/4*3 - 64 + pad
			if token := forge(hs256Header, onePayload(`pad="`+strings.Repeat("p", rough)+`"`), hs(testSecret)); len(token) >= n {
				return token
			}
		}
	}
	return []attempt{
		one("of 8 KiB", sized(8<<10)).welcome("alice"),
		one("of 8 KiB and 1", sized(8<<10+1)).unauthorized("too_large"),
		one("of 100 KB", sized(100<<10)).refused(431, "head_too_large", ""),
		one("just a word", canary).unauthorized("malformed"),
		one("dots", "..").unauthorized("malformed"),
		one("a dot in front", "."+good).unauthorized("malformed"),
		one("a dot behind", good+".").unauthorized("malformed"),
		one("no payload", parts[0]+".."+parts[2]).unauthorized("malformed"),
		one("of five parts: a JWE", b64(`{"alg":"dir","enc":"A256GCM"}`)+"."+b64(canary)+"."+b64("iv")+"."+parts[1]+"."+b64("tag")).unauthorized("malformed"),
		one("in the JSON form", `{"payload":"`+parts[1]+`","signatures":[{"protected":"`+parts[0]+`","signature":"`+parts[2]+`"}]}`).unauthorized("malformed"),
		one("padded", parts[0]+"."+parts[1]+"."+parts[2]+"=").unauthorized("malformed"),
		one("with padding in the header", parts[0]+"==."+parts[1]+"."+parts[2]).unauthorized("malformed"),
		one("in the other base64", parts[0]+"."+parts[1]+".++//"+parts[2][4:]).unauthorized("malformed"),
		one("with a space in it", parts[0]+" ."+parts[1]+"."+parts[2]).unauthorized("malformed"),
		one("beyond ASCII", parts[0]+".é"+parts[1]+"."+parts[2]).unauthorized("malformed"),
		one("with bearer twice", "Bearer "+good).unauthorized("malformed"),
		query("good, in the query", good).welcome("alice"),
		query("with a line break", parts[0]+"%0A."+parts[1]+"."+parts[2]).unauthorized("malformed"),
		query("with a line break at the end", good+"%0D%0A").unauthorized("malformed"),
		query("with a NUL", good+"%00").unauthorized("malformed"),
		query("with a plus for a space", good+"+").unauthorized("malformed"),
		query("with a full-width dot", parts[0]+"%EF%BC%8E"+parts[1]+"."+parts[2]).unauthorized("malformed"),
		whole("payload a string", `"`+canary+`"`).unauthorized("malformed"),
		whole("payload a list", `["`+canary+`"]`).unauthorized("malformed"),
		whole("payload two objects", onePayload()+onePayload()).unauthorized("malformed"),
		whole("payload with a byte order mark", "\ufeff"+onePayload()).unauthorized("malformed"),
		whole("payload with white space around", " \n"+onePayload()+"\r\n").welcome("alice"),
		whole("payload with a comma too many", strings.Replace(onePayload(), "}", ",}", 1)).unauthorized("malformed"),
		one("header a list", forge(`["HS256"]`, onePayload(), hs(testSecret))).unauthorized("malformed"),
		one("header in two objects", forge(`{"alg":"HS256"}{"alg":"HS256"}`, onePayload(), hs(testSecret))).unauthorized("malformed"),
		one("header of many names", forge(`{"alg":"HS256"`+manyMembers(400)+`}`, onePayload(), hs(testSecret))).welcome("alice"),
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":1`, i)
	}
	return b.String()
}

// issuers are tokens of one issuer that pretend to be of another.
func (s *siege) issuers(t *testing.T) []attempt {
	red, green, blue := hs(redSecret), hs(greenSecret), es256(t, s.fetched)
	many := func(name, header, iss string, sign func(string) string, changes ...string) attempt {
		return attempt{name: name, gate: "many", token: forge(header, payload(append([]string{`iss="https://` + iss + `.example"`}, changes...)...), sign)}
	}
	const k1 = `{"alg":"ES256","kid":"k1"}`
	return []attempt{
		many("red", hs256Header, "red", red).welcome("red/alice"),
		many("green", hs256Header, "green", green).welcome("green/alice"),
		many("blue", k1, "blue", blue).welcome("blue/alice"),
		many("blue without kid", `{"alg":"ES256"}`, "blue", blue).welcome("blue/alice"),
		many("red with a kid", `{"alg":"HS256","kid":"k1"}`, "red", red).welcome("red/alice"),
		many("sub with a slash", hs256Header, "red", red, `sub="green/alice"`).welcome("red/green/alice"),
		many("red's key, green's iss", hs256Header, "green", red).unauthorized("bad_signature"),
		many("green's key, red's iss", hs256Header, "red", green).unauthorized("bad_signature"),
		many("red's key, blue's iss", hs256Header, "blue", red).unauthorized("algorithm"),
		many("red's key, blue's iss and kid", `{"alg":"HS256","kid":"k1"}`, "blue", red).unauthorized("algorithm"),
		many("blue's key, red's iss", k1, "red", blue).unauthorized("algorithm"),
		many("blue's name as a secret", `{"alg":"HS256","kid":"k1"}`, "blue", hs(jwk(t, &s.fetched.PublicKey, "k1"))).unauthorized("algorithm"),
		many("blue, unknown kid", `{"alg":"ES256","kid":"k2"}`, "blue", blue).unauthorized("unknown_key"),
		many("blue, kid a path", `{"alg":"ES256","kid":"../k1"}`, "blue", blue).unauthorized("unknown_key"),
		many("blue, kid in capitals", `{"alg":"ES256","kid":"K1"}`, "blue", blue).unauthorized("unknown_key"),
		many("blue, kid empty", `{"alg":"ES256","kid":""}`, "blue", blue).unauthorized("malformed"),
		many("blue, alg none", `{"alg":"none","kid":"k1"}`, "blue", junk).unauthorized("algorithm"),
		many("no such iss", hs256Header, "purple", red).unauthorized("issuer"),
		many("iss missing", hs256Header, "red", red, "iss=").unauthorized("issuer"),
		many("iss a list of all", hs256Header, "red", red, `iss=["https://red.example","https://green.example"]`).unauthorized("issuer"),
		many("iss twice", hs256Header, "red", red, `+"iss":"https://green.example"`).unauthorized("malformed"),
		many("iss twice, once escaped", hs256Header, "red", green, `+"i\u0073s":"https://green.example"`).unauthorized("malformed"),
		many("iss of another scheme", hs256Header, "red", red, `iss="http://red.example"`).unauthorized("issuer"),
	}
}
