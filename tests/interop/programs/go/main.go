// A client and a server over Go's crypto/tls. Arguments are words key=value, see tests/interop/peers/own.py.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const timeout = 20 * time.Second

var groups = map[string]uint16{
	"secp256r1": 0x17, "secp384r1": 0x18, "secp521r1": 0x19, "x25519": 0x1d,
	"SecP256r1MLKEM768": 0x11eb, "X25519MLKEM768": 0x11ec, "SecP384r1MLKEM1024": 0x11ed,
}

func main() {
	words := map[string]string{}
	var turns []string
	for _, word := range os.Args[1:] {
		key, value, _ := strings.Cut(word, "=")
		if key == "turn" {
			turns = append(turns, value)
		}
		words[key] = value
	}
	var err error
	switch words["role"] {
	case "server":
		err = serve(words)
	case "client":
		err = connect(words, turns)
	default:
		fmt.Println(runtime.Version())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func config(words map[string]string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if words["certificate"] != "" {
		pair, err := tls.LoadX509KeyPair(words["certificate"], words["key"])
		if err != nil {
			return nil, err
		}
		if words["staple"] != "" {
			if pair.OCSPStaple, err = os.ReadFile(words["staple"]); err != nil {
				return nil, err
			}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	authority, err := os.ReadFile(words["ca"])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	config.RootCAs, config.ClientCAs = pool, pool
	switch words["client_authentication"] {
	case "optional":
		config.ClientAuth = tls.VerifyClientCertIfGiven
	case "required":
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	for _, name := range list(words["groups"]) {
		config.CurvePreferences = append(config.CurvePreferences, tls.CurveID(groups[name]))
	}
	config.SessionTicketsDisabled = words["tickets"] == "0"
	config.NextProtos = list(words["alpn"])
	config.ServerName = words["name"]
	return config, nil
}

func list(words string) []string {
	if words == "" {
		return nil
	}
	return strings.Split(words, ",")
}

func printFacts(state tls.ConnectionState) {
	resumed := 0
	if state.DidResume {
		resumed = 1
	}
	fmt.Printf("suite=%s\nalpn=%s\nresumed=%d\n", tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol, resumed)
	for name, code := range groups {
		if code == uint16(state.CurveID) {
			fmt.Printf("group=%s\n", name)
		}
	}
}

func serve(words map[string]string) error {
	config, err := config(words)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("port=%d\n", listener.Addr().(*net.TCPAddr).Port)
	for {
		socket, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := serveOne(tls.Server(socket, config)); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
}

func serveOne(stream *tls.Conn) error {
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(timeout))
	if err := stream.Handshake(); err != nil {
		return err
	}
	state := stream.ConnectionState()
	printFacts(state)
	fmt.Printf("client_certificate=%d\n", min(len(state.VerifiedChains), 1))
	reader := bufio.NewReader(stream)
	for {
		request, err := http.ReadRequest(reader)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		content := []byte("pellucid interop: hello\n")
		if request.Method == "POST" {
			if content, err = io.ReadAll(request.Body); err != nil {
				return err
			}
		}
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(content))
		if _, err = stream.Write(append([]byte(head), content...)); err != nil {
			return err
		}
		if request.Close {
			return nil
		}
	}
}

func connect(words map[string]string, turns []string) error {
	config, err := config(words)
	if err != nil {
		return err
	}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	connections, err := strconv.Atoi(words["connections"])
	if err != nil {
		return err
	}
	for number := 0; number < connections; number++ {
		if err := connectOnce(words, turns, config); err != nil {
			return err
		}
	}
	return nil
}

func connectOnce(words map[string]string, turns []string, config *tls.Config) error {
	dialer := &net.Dialer{Timeout: timeout}
	stream, err := tls.DialWithDialer(dialer, "tcp", "127.0.0.1:"+words["port"], config)
	if err != nil {
		return err
	}
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(timeout))
	reader := bufio.NewReader(stream)
	for _, turn := range turns {
		at := strings.LastIndex(turn, ":")
		path, size := turn[:at], turn[at+1:]
		send, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := stream.Write(send); err != nil {
			return err
		}
		answer, err := receive(reader, size)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path+".answer", answer, 0o600); err != nil {
			return err
		}
	}
	printFacts(stream.ConnectionState())
	return nil
}

func receive(reader *bufio.Reader, size string) ([]byte, error) {
	if size == "http" {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(response.Body)
	}
	count, err := strconv.Atoi(size)
	if err != nil {
		return nil, err
	}
	answer := make([]byte, count)
	_, err = io.ReadFull(reader, answer)
	return answer, err
}
