package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Exchange sends bytes as they are over a connection of its own, from an address of this machine, and returns every
// answer until the server closes the connection: those to the methods in their order, and whatever comes behind them.
// Our side is closed behind the last of them, or at once when cut is set: the bytes promise more than they hold. It is
// an error when the server has not closed within the limit, or sends what is no answer.
func (s *Server) Exchange(from string, sent []byte, cut bool, limit time.Duration, methods ...string) (answers []Answer, err error) {
	dialer := net.Dialer{Timeout: limit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	conn := c.(*net.TCPConn)
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	written := make(chan struct{})
	go func() { // beside reading: a server may answer and close before it has read all
		defer close(written)
		_, err := conn.Write(sent)
		if err == nil && cut {
			_ = conn.CloseWrite()
		}
	}()
	defer func() { conn.Close(); <-written }()
	r := bufio.NewReader(conn)
	for {
		if len(answers) == len(methods) && !cut {
			<-written
			_ = conn.CloseWrite()
		}
		if _, err := r.Peek(1); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return answers, nil
		}
		method := http.MethodGet
		if len(answers) < len(methods) {
			method = methods[len(answers)]
		}
		answer, err := readAnswer(r, method)
		switch {
		case errors.Is(err, syscall.ECONNRESET):
			return answers, nil // closed before the server had read all
		case err != nil:
			return answers, fmt.Errorf("answer %d: %w", len(answers)+1, err)
		case answer.Status >= http.StatusOK: // before it come those that only say to go on
			answers = append(answers, answer)
		}
	}
}

func readAnswer(r *bufio.Reader, method string) (Answer, error) {
	response, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.Close {
		response.Header.Set("Connection", "close") // which ReadResponse takes out
	}
	return Answer{response.StatusCode, response.Header, body}, err
}
