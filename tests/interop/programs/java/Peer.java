// A client and a server over JSSE. Arguments are words key=value, see tests/interop/peers/own.py.

import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.Security;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

public final class Peer {
    private static final int TIMEOUT_MILLISECONDS = 20000;
    private static final byte[] HELLO = "pellucid interop: hello\n".getBytes(StandardCharsets.US_ASCII);
    private static final Map<String, String> words = new HashMap<>();
    private static final List<String> turns = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        for (String word : arguments) {
            int at = word.indexOf('=');
            if (word.startsWith("turn=")) {
                turns.add(word.substring(at + 1));
            }
            words.put(word.substring(0, at), word.substring(at + 1));
        }
        if (!words("groups").isEmpty()) {
            System.setProperty("jdk.tls.namedGroups", words("groups"));
        }
        if (words.containsKey("key_limit")) {
            Security.setProperty("jdk.tls.keyLimits", "AES/GCM/NoPadding KeyUpdate " + words("key_limit"));
        }
        if (words("role").equals("server")) {
            serve();
        } else {
            connect();
        }
    }

    private static String words(String key) {
        return words.getOrDefault(key, "");
    }

    // ---- configuration ----

    private static SSLContext context() throws Exception {
        CertificateFactory certificates = CertificateFactory.getInstance("X.509");
        KeyStore trust = KeyStore.getInstance("PKCS12");
        trust.load(null, null);
        try (InputStream file = new FileInputStream(words("ca"))) {
            trust.setCertificateEntry("ca", certificates.generateCertificate(file));
        }
        TrustManagerFactory trusted = TrustManagerFactory.getInstance("PKIX");
        trusted.init(trust);
        KeyManagerFactory keys = null;
        if (!words("certificate").isEmpty()) {
            KeyStore own = KeyStore.getInstance("PKCS12");
            own.load(null, null);
            Certificate[] chain;
            try (InputStream file = new FileInputStream(words("certificate"))) {
                chain = certificates.generateCertificates(file).toArray(new Certificate[0]);
            }
            own.setKeyEntry("own", key(chain[0].getPublicKey().getAlgorithm()), new char[0], chain);
            keys = KeyManagerFactory.getInstance("PKIX");
            keys.init(own, new char[0]);
        }
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(keys == null ? null : keys.getKeyManagers(), trusted.getTrustManagers(), null);
        return context;
    }

    private static PrivateKey key(String algorithm) throws Exception {
        String text = Files.readString(Path.of(words("key")));
        byte[] der = Base64.getMimeDecoder().decode(text.replaceAll("-----[A-Z ]+-----", ""));
        return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(der));
    }

    private static void configure(SSLParameters parameters) {
        parameters.setProtocols(new String[] {"TLSv1.3"});
        if (!words("suites").isEmpty()) {
            parameters.setCipherSuites(words("suites").split(","));
        }
        if (!words("alpn").isEmpty()) {
            parameters.setApplicationProtocols(words("alpn").split(","));
        }
    }

    // A session that is resumed was made before this connection.
    private static void printFacts(SSLSocket socket, long started) {
        System.out.println("resumed=" + (socket.getSession().getCreationTime() < started ? 1 : 0));
        System.out.println("suite=" + socket.getSession().getCipherSuite());
        System.out.println("alpn=" + socket.getApplicationProtocol());
    }

    // ---- the two roles ----

    private static void serve() throws Exception {
        SSLServerSocket listener =
                (SSLServerSocket) context().getServerSocketFactory().createServerSocket(
                        0, 50, InetAddress.getLoopbackAddress());
        SSLParameters parameters = listener.getSSLParameters();
        configure(parameters);
        if (words("client_authentication").equals("optional")) {
            parameters.setWantClientAuth(true);
        } else if (words("client_authentication").equals("required")) {
            parameters.setNeedClientAuth(true);
        }
        listener.setSSLParameters(parameters);
        System.out.println("port=" + listener.getLocalPort());
        while (true) {
            SSLSocket socket = (SSLSocket) listener.accept();
            Thread thread = new Thread(() -> serveOne(socket));
            thread.setDaemon(true);
            thread.start();
        }
    }

    private static void serveOne(SSLSocket socket) {
        try (socket) {
            socket.setSoTimeout(TIMEOUT_MILLISECONDS);
            long started = System.currentTimeMillis();
            socket.startHandshake();
            printFacts(socket, started);
            System.out.println("client_certificate=" + (shown(socket) ? 1 : 0));
            InputStream in = socket.getInputStream();
            OutputStream out = socket.getOutputStream();
            while (true) {
                String head = head(in);
                if (head.isEmpty()) {
                    return;
                }
                byte[] body = exactly(in, contentLength(head));
                byte[] content = head.startsWith("POST") ? body : head.startsWith("GET /large ") ? large() : HELLO;
                out.write(("HTTP/1.1 200 OK\r\nContent-Length: " + content.length + "\r\n\r\n")
                        .getBytes(StandardCharsets.US_ASCII));
                out.write(content);
                if (head.toLowerCase(Locale.ROOT).contains("\nconnection: close")) {
                    return;
                }
            }
        } catch (Exception error) {
            error.printStackTrace();
        }
    }

    // Lines of 4096: the hexadecimal SHA-256 of the line's number, over and over.
    private static byte[] large() throws Exception {
        ByteArrayOutputStream large = new ByteArrayOutputStream();
        for (int number = 0; number < 256; number++) {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(new byte[] {0, 0, 0, (byte) number});
            String line = HexFormat.of().formatHex(digest).repeat(64);
            large.write((line.substring(0, 4095) + "\n").getBytes(StandardCharsets.US_ASCII));
        }
        return large.toByteArray();
    }

    private static boolean shown(SSLSocket socket) {
        try {
            return socket.getSession().getPeerCertificates().length > 0;
        } catch (SSLPeerUnverifiedException none) {
            return false;
        }
    }

    private static void connect() throws Exception {
        SSLContext context = context();
        for (int number = 0; number < Integer.parseInt(words("connections")); number++) {
            connectOnce(context);
        }
    }

    private static void connectOnce(SSLContext context) throws Exception {
        java.net.Socket tcp = new java.net.Socket("127.0.0.1", Integer.parseInt(words("port")));
        tcp.setSoTimeout(TIMEOUT_MILLISECONDS);
        try (SSLSocket socket =
                (SSLSocket) context.getSocketFactory().createSocket(tcp, words("name"), tcp.getPort(), true)) {
            SSLParameters parameters = socket.getSSLParameters();
            configure(parameters);
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            parameters.setServerNames(List.of(new SNIHostName(words("name"))));
            socket.setSSLParameters(parameters);
            long started = System.currentTimeMillis();
            socket.startHandshake();
            InputStream in = socket.getInputStream();
            for (String turn : turns) {
                int at = turn.lastIndexOf(':');
                String size = turn.substring(at + 1);
                socket.getOutputStream().write(Files.readAllBytes(Path.of(turn.substring(0, at))));
                byte[] answer = exactly(in, size.equals("http") ? contentLength(head(in)) : Integer.parseInt(size));
                Files.write(Path.of(turn.substring(0, at) + ".answer"), answer);
            }
            printFacts(socket, started);
        }
    }

    // ---- a little HTTP ----

    private static String head(InputStream in) throws IOException {
        ByteArrayOutputStream head = new ByteArrayOutputStream();
        while (!head.toString(StandardCharsets.ISO_8859_1).endsWith("\r\n\r\n")) {
            int octet = in.read();
            if (octet < 0) {
                if (head.size() == 0) {
                    return "";
                }
                throw new EOFException("in the middle of a header");
            }
            head.write(octet);
        }
        return head.toString(StandardCharsets.ISO_8859_1);
    }

    private static int contentLength(String head) {
        for (String line : head.split("\r\n")) {
            if (line.toLowerCase(Locale.ROOT).startsWith("content-length:")) {
                return Integer.parseInt(line.substring(line.indexOf(':') + 1).trim());
            }
        }
        return 0;
    }

    private static byte[] exactly(InputStream in, int size) throws IOException {
        byte[] data = in.readNBytes(size);
        if (data.length < size) {
            throw new EOFException("got " + data.length + " of " + size + " bytes");
        }
        return data;
    }
}
