package detect

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
)

// Secrets are written in two parts, for the sake of those who search
// repositories for whole ones. None has ever opened anything.
var (
	testJWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" + // jwt.io, introduction
		".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ" + ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
	unsecuredJWT = "eyJhbGciOiJub25lIn0" + // RFC 7519, section 6.1
		".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
	encryptedJWT = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ" + // RFC 7516, appendix A.1, shortened
		".OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ"

	awsID     = "AKIA" + "IOSFODNN7EXAMPLE" // AWS IAM User Guide
	awsSecret = "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY"
	gcpKey    = "AIza" + "SyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe" // Google, "Manage API keys"
	azureKey  = "AccountKey=" + "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq" +
		"/K1SZFPTOtr/KBHBeksoGMGw==" // the storage emulator's, Azurite
	azureSecret = "aB3" + "8Q~" + "dEf-1gH2_iJ3~kL4.mN5oP6qR7sT8uVwX9"
	githubPAT   = "ghp_" + "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + "0mLq17" // coolaj86, gist: revoked, without rights
	githubFine  = "github_pat_" + "11ABCDEFG0abcdefghijkl" + "_aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2yZ3aB4cD5eF6gH7iJ8kL9mN"
	slackBot    = "xoxb-" + "123456789012-1234567890123" + "-AbCdEfGh1jKlMn0pQrStUvWx"
	slackHook   = "hooks.slack.com/services" + "/T01ABCDEF23/B04GHIJKL56" + "/aBcDeFgHiJkLmNoPqRsTuVwX"
	stripe      = "sk_" + "live_" + "4eC39HqLyjWDarjtT1zdp7dc"
	entropic    = "kX9" + "vQ2mL7pR4tW8zB3nF6y"
)

const testPEM = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIObtNtldIzY0sc5q1nrPsOfXxVl2hoKpk1Zs8KB0e8J+oAoGCCqGSM49
AwEHoUQDQgAEmYUjv0jXuDkTjuOtdPmW0AfFpkZ7fGTVpVdGFtcGxlU2ExX0GzQk
-----END EC PRIVATE KEY-----`

// samples has something for each detector, for the fuzzer to begin with.
var samples = []string{
	testJWT, unsecuredJWT, awsID, "aws_secret_access_key = " + awsSecret, gcpKey, azureKey, azureSecret, githubPAT, githubFine,
	slackBot, "https://" + slackHook, stripe, entropic, "secret=4f2d8a6b1c9e3f7054d6b8a2e1c09f37", testPEM, strings.ReplaceAll(testPEM, "\n", `\n`),
	"4111 1111 1111 1111", "３７８２ 822463 10005", "%B4111111111111111^", "GB82 WEST 1234 5698 7654 32", "gb82west12345698765432",
	"123-45-6789", "ssn 123 45 6789", "+44 (0)20 7946 0958", "＋８１ ３ １２３４ ５６７８", "o'brien@mail.example.com", "192.0.2.1", "::ffff:192.0.2.1",
	"2001:db8::1", `\n\t\r`,
}

func TestJWT(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	wantValues(t, jwt, testJWT, unsecuredJWT, encryptedJWT, encode([]byte(`{"a":{"alg":1},"b":["alg"],"alg":"none"}`))+".e30.",
		encode([]byte(`{"typ":"JWT", "alg" : "ES256"}`))+".cGF5bG9hZA.c2ln")
	wantWithin(t, jwt, "Bearer ⟦"+testJWT+"⟧", `{"token":"⟦`+testJWT+`⟧"}`, "⟦"+testJWT+"⟧\n⟦"+testJWT+"⟧", "token=⟦"+testJWT+"⟧&x", "("+"⟦"+testJWT+"⟧)")
	wantNothing(t, jwt,
		"eyJ", "eyJ.eyJ.eyJ", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9.e30", "eyJhbGciOiJIUzI1NiJ9..c2ln", "a"+testJWT, "x-"+testJWT,
		encode([]byte(`{"typ":"JWT"}`))+".e30.c2ln", encode([]byte(`{"alg":""}`))+".e30.c2ln", encode([]byte(`{"alg":1}`))+".e30.c2ln",
		encode([]byte(`{"a":{"alg":"x"}}`))+".e30.c2ln", encode([]byte(`{"a":"alg","b":"x"}`))+".e30.c2ln", encode([]byte(`{"alg":"x"`))+".e30.c2ln",
		"eyJhbGciOiJIUzI1NiJ9!.e30.c2ln", encode([]byte(`{"alg":"x","pad":"`+strings.Repeat("a", 4096)+`"}`))+".e30.c2ln",
		base64.StdEncoding.EncodeToString([]byte(`{"alg":"none"}`))+".e30.",
	)
}

func TestPrivateKey(t *testing.T) {
	wantValues(t, privateKey, testPEM, strings.ReplaceAll(testPEM, "\n", `\n`), strings.ReplaceAll(testPEM, "\n", `\r\n`), strings.ReplaceAll(testPEM, "\n", ""),
		strings.ReplaceAll(testPEM, "EC PRIVATE", "PRIVATE"), strings.ReplaceAll(testPEM, "EC ", "OPENSSH "), strings.ReplaceAll(testPEM, "EC ", "ENCRYPTED "),
		strings.ReplaceAll(testPEM, "EC PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
		strings.Replace(testPEM, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,0123456789ABCDEF\n\n", 1),
		"-----BEGIN PRIVATE KEY-----", "-----BEGIN DSA PRIVATE KEY-----")
	wantWithin(t, privateKey, "⟦-----BEGIN PRIVATE KEY-----\nMHcCAQEEIObtNtldIzY0⟧\n", `{"k":"⟦-----BEGIN RSA PRIVATE KEY-----\nMHcCAQEE⟧\n"}`,
		"⟦"+testPEM+"⟧\n⟦"+testPEM+"⟧", "it says ⟦-----BEGIN PRIVATE KEY-----⟧.", "-⟦-----BEGIN PRIVATE KEY-----⟧-",
		"⟦-----BEGIN PRIVATE KEY-----\nMHcC⟧ -----END CERTIFICATE-----")
	wantNothing(t, privateKey, "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----\nMHcC\n-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE REQUEST-----",
		"-----END PRIVATE KEY-----", "-----BEGIN PRIVATE KEY", "----BEGIN PRIVATE KEY-----", "-----BEGIN private key-----", "BEGIN PRIVATE KEY",
		"-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----BEGIN "+strings.Repeat("A", 100)+" PRIVATE KEY-----")
}

func TestAWS(t *testing.T) {
	wantValues(t, awsAccessKey, awsID, "ASIA"+awsID[4:], "ABIA"+awsID[4:], "ACCA"+awsID[4:])
	wantWithin(t, awsAccessKey, "aws_access_key_id=⟦"+awsID+"⟧", "https://⟦"+awsID+"⟧:x@s3", "/⟦"+awsID+"⟧/20261123/us-east-1")
	wantNothing(t, awsAccessKey, "AIDA"+awsID[4:], "AKIA"+strings.Repeat("X", 16), awsID+"A", "X"+awsID, awsID[:19], strings.ToLower(awsID), awsID[:19]+"0", awsID+"_", "AKIA AKIA")

	wantWithin(t, awsSecretKey, "aws_secret_access_key = ⟦"+awsSecret+"⟧", `"SecretAccessKey": "⟦`+awsSecret+`⟧"`, `AWS\n⟦`+awsSecret+"⟧ ", "secret:⟦"+awsSecret+"⟧")
	wantNothing(t, awsSecretKey, awsSecret, `"id":"`+awsSecret+`"`, "secret "+awsSecret+"=", "secret "+awsSecret+"a", "secret da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"aws "+strings.Repeat("aA1/", 10), "secret"+awsSecret, "aws "+awsSecret[:39], "aws"+strings.Repeat(" ", 50)+awsSecret)
}

func TestCloudKeys(t *testing.T) {
	wantValues(t, gcpAPIKey, gcpKey)
	wantWithin(t, gcpAPIKey, "https://maps.example/?key=⟦"+gcpKey+"⟧&v=3")
	wantNothing(t, gcpAPIKey, "a"+gcpKey, gcpKey+"a", gcpKey[:38], "AIza"+strings.Repeat("x", 35), strings.ToLower(gcpKey))

	wantValues(t, azureStorageKey, azureKey, strings.ToLower(azureKey[:11])+azureKey[11:], strings.Replace(azureKey, "=", `": "`, 1), strings.Replace(azureKey, "=", `\":\"`, 1))
	wantWithin(t, azureStorageKey, "DefaultEndpointsProtocol=https;AccountName=devstoreaccount1;⟦"+azureKey+"⟧;EndpointSuffix=core.windows.net")
	wantNothing(t, azureStorageKey, azureKey[11:], "sha512-"+azureKey[11:], "AccountKey="+strings.Repeat("A", 86)+"==", azureKey[:len(azureKey)-1], azureKey+"=",
		"AccountKeyName"+azureKey[10:], "AccountKey"+azureKey[11:], strings.Replace(azureKey, "GMGw==", "GMGx==", 1), "AccountKey=")

	wantValues(t, azureClientSecret, azureSecret, azureSecret[:37])
	wantWithin(t, azureClientSecret, "client_secret=⟦"+azureSecret+"⟧&x", "it is ⟦"+azureSecret+"⟧.")
	wantNothing(t, azureClientSecret, azureSecret+"a", azureSecret[:36], "x"+azureSecret, strings.Replace(azureSecret, "8Q", "xQ", 1), "aaa8Q~"+strings.Repeat("a", 34), strings.Replace(azureSecret, "~", "-", 1))
}

func TestServiceTokens(t *testing.T) {
	refresh := strings.Repeat("aB3dE5fG7h", 7)
	sum := checksum62([]byte(refresh))
	wantValues(t, githubToken, githubPAT, "gho_"+githubPAT[4:], "ghu_"+githubPAT[4:], "ghs_"+githubPAT[4:], "ghr_"+githubPAT[4:], "ghr_"+refresh+string(sum[:]), githubFine)
	wantWithin(t, githubToken, "https://x:⟦"+githubPAT+"⟧@github.com/", "token ⟦"+githubPAT+"⟧\n", `\n⟦`+githubPAT+"⟧")
	wantNothing(t, githubToken, githubPAT[:39]+"8", githubPAT[:39], githubPAT+"a", "x"+githubPAT, "ghx_"+githubPAT[4:], "ghp_"+strings.Repeat("x", 36), githubPAT+"_",
		"ghp_"+refresh+string(sum[:]), githubFine[:92], githubFine+"a", "github_pat_"+strings.Repeat("1", 22)+"_"+strings.Repeat("1", 59), "GHP_"+githubPAT[4:])

	secret := slackBot[strings.LastIndex(slackBot, "-")+1:]
	wantValues(t, slackToken, slackBot, "xoxp-"+slackBot[5:], "xoxp-1-2-3-"+secret, "xoxa-2-"+secret, "xoxr-2-"+secret, "xoxc-1-2-3-"+strings.Repeat("0123456789abcdef", 4),
		"xoxe-1-"+strings.Repeat(secret, 6), "xoxe.xoxp-1-"+strings.Repeat(secret, 6), "xoxe.xoxb-1-"+secret, "xapp-1-A0123456789-1234567890123-"+secret)
	wantWithin(t, slackToken, "slack-⟦"+slackBot+"⟧", "token=⟦"+slackBot+"⟧&x")
	wantNothing(t, slackToken, "xoxb-your-token-goes-here-please", "xoxb-123456789012-"+strings.Repeat("X", 24), "xoxz-1-"+secret, "xoxb-1-"+secret[:15], "axoxb-1-"+secret,
		"xoxb"+secret, "xoxb-"+secret, "xoxb-1-"+strings.Repeat(secret, 20), "xoxb-1-"+secret+"_", "xapp-A-"+secret, "xoxb-123456789012345678901234", "xoxp-1-YourTokenGoesRightHere")

	wantValues(t, slackWebhook, slackHook, strings.Replace(slackHook, ".com", "-gov.com", 1), "hooks.slack.com/workflows/T01ABCDEF23/A04GHIJKL56/123456789012345678/"+secret)
	wantWithin(t, slackWebhook, "https://⟦"+slackHook+"⟧", "https://⟦"+slackHook+"⟧?x", `"https://⟦`+slackHook+`⟧"`)
	wantNothing(t, slackWebhook, "hooks.slack.com/services/T00000000/B00000000/"+strings.Repeat("X", 24), "hooks.slack.com/services/", "hooks.slack.com/docs/"+secret, "webhooks.slack.com/services/a/b/"+secret, "hooks.slack.com.example/services/a/b/"+secret)

	wantValues(t, stripeKey, stripe, "rk"+stripe[2:], stripe+strings.Repeat("a1", 40))
	wantNothing(t, stripeKey, "pk"+stripe[2:], strings.Replace(stripe, "live", "test", 1), "sk_live_"+strings.Repeat("0", 24), stripe[:20], "a"+stripe, stripe+"_", stripe+strings.Repeat("a1", 150))
}

func TestHighEntropy(t *testing.T) {
	wantValues(t, highEntropy, entropic, azureKey[11:], githubPAT, gcpKey, "dGhlIHNhbXBsZSBub25jZQ==", entropic+"="+"=",
		"P1p0IDEgc2F5cyBoZWxsbyB0byBh"[:24]+"x9Q2", "Zm9vYmFyMTIzNDU2Nzg5MEFiQ2REZUZn")
	wantWithin(t, highEntropy, "secret=⟦4f2d8a6b1c9e3f7054d6b8a2e1c09f37⟧", `"apiKey":"⟦4F2D8A6B1C9E3F7054D6B8A2E1C09F37⟧"`, `"token":"⟦k3j9x0qz7m4w8v2b5n1c⟧"`,
		"password: ⟦k3j9x0qz7m4w8v2b5n1c⟧", "Authorization: Bearer ⟦"+entropic+"⟧", "a,⟦"+entropic+"⟧,b")
	wantNothing(t, highEntropy,
		"4f2d8a6b1c9e3f7054d6b8a2e1c09f37", "k3j9x0qz7m4w8v2b5n1c", "secret 550e8400-e29b-41d4-a716-446655440000", "key=12345678901234567890123456789012",
		"token=abcdefabcdefabcdefabcdefabcdefab", "key:product-category-name-2026-settings-v2", "secret=abcdefghijklmnopqrstuvwxyz123456", "aB3/xY9/kL2/mN7/qR4/tU8/vW1", "password=correcthorsebatterystaple", "secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
		"base64,"+entropic, "sha256-"+entropic+entropic, entropic[:19], strings.Repeat(entropic, 24), "Users/Alice/Projects2/MyApp/Source3/Main",
		"getElementsByTagName2024AndRemoveThem", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "ThisIsA_VeryLong_IdentifierName_V2")
}

// What the comment says of random tokens.
func TestHighEntropyRecall(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, length := range []int{20, 24, 32, 40, 64, 512} {
		missed := 0
		for range 1000 {
			token := make([]byte, length)
			for i := range token {
				token[i] = alphabet[random.IntN(len(alphabet))]
			}
			if start, end := highEntropy.Find(token, 0); start != 0 || end != length {
				missed++
			}
		}
		if missed > 60 {
			t.Errorf("length %d: %d of 1000 missed", length, missed)
		}
		t.Logf("length %d: %d of 1000 missed", length, missed)
	}
}
