package bundle

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A root is a root certificate as the templates see it. All but Subject is made
// of digits and fixed words, and may stand in a script as it is.
type root struct {
	cert *x509.Certificate

	Name        string // framegate-root- and the first 8 digits of SHA256: of files without extension, aliases, nicknames
	SHA256      string // fingerprint as sha256sum prints it
	Fingerprint string // the same as browsers and framegate ca show do
	SHA1        string // what Windows calls the thumbprint, which finds a certificate there and proves nothing
	Subject     string // for people, printable
	NotAfter    string // for people
	HashOld     string // file name in Android's system store
}

// rootsOf has the oldest root first, in whatever order they come: which one is
// in force is not for the device to care about, and must not change a bundle.
func rootsOf(certs []*x509.Certificate) ([]root, error) {
	if len(certs) == 0 {
		return nil, errNoRoots
	}
	certs = slices.Clone(certs)
	slices.SortFunc(certs, func(a, b *x509.Certificate) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), bytes.Compare(a.Raw, b.Raw))
	})
	var list []root
	hashes := make(map[string]int)
	for _, c := range certs {
		r := newRoot(c)
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("bundle: %s is no certificate of an authority", r.Subject)
		}
		for _, other := range list {
			if other.Name == r.Name {
				return nil, fmt.Errorf("bundle: %s is there twice", r.Subject)
			}
		}
		hash := subjectHashOld(c)
		r.HashOld = fmt.Sprintf("%s.%d", hash, hashes[hash])
		hashes[hash]++
		list = append(list, r)
	}
	return list, nil
}

func newRoot(c *x509.Certificate) root {
	sum := sha256.Sum256(c.Raw)
	thumb := sha1.Sum(c.Raw)
	return root{
		cert:        c,
		Name:        "framegate-root-" + hex.EncodeToString(sum[:4]),
		SHA256:      hex.EncodeToString(sum[:]),
		Fingerprint: strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"),
		SHA1:        strings.ToUpper(hex.EncodeToString(thumb[:])),
		Subject:     printable(c.Subject.String()),
		NotAfter:    c.NotAfter.UTC().Format("2006-01-02"),
	}
}

// printable replaces what could move a cursor or end a line: the subject of an
// imported authority is somebody else's text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, s)
}

// subjectHashOld is the name by which OpenSSL before 1.0 looked a certificate
// up, and Android does: the first four bytes of the MD5 of the subject, least
// significant first. See X509_NAME_hash_old of OpenSSL.
func subjectHashOld(c *x509.Certificate) string {
	sum := md5.Sum(c.RawSubject)
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:]))
}

func (r root) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})
}

func (r root) base64() string { return base64.StdEncoding.EncodeToString(r.cert.Raw) }

// ders are the certificates in DER, which Windows and macOS take by double-click.
func ders(roots []root) []File {
	var files []File
	for _, r := range roots {
		files = append(files, File{r.Name + ".cer", 0o644, bytes.Clone(r.cert.Raw)})
	}
	return files
}

// pems are the certificates in PEM, one a file. update-ca-certificates wants
// that and the extension .crt.
func pems(roots []root) []File {
	var files []File
	for _, r := range roots {
		files = append(files, File{r.Name + ".crt", 0o644, r.pem()})
	}
	return files
}

// allPEM is one file with all certificates.
func allPEM(roots []root) []File {
	var all []byte
	for _, r := range roots {
		all = append(all, r.pem()...)
	}
	return []File{{"framegate-roots.pem", 0o644, all}}
}

// hashed are the certificates as Android's system store names them.
func hashed(roots []root) []File {
	var files []File
	for _, r := range roots {
		files = append(files, File{r.HashOld, 0o644, r.pem()})
	}
	return files
}
