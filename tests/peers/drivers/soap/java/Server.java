package peers;

import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;
import javax.jws.WebMethod;
import javax.jws.WebParam;
import javax.jws.WebService;
import javax.xml.ws.Endpoint;

/** Services as agencies and platforms have them, on loopback; ends with its standard input. */
public class Server {
    @WebService(targetNamespace = "http://data.peers/")
    public static class Data {
        /** A page of records as a document in a text; its prolog names an encoding it is not in. */
        @WebMethod
        public String getData(@WebParam(name = "key") String key, @WebParam(name = "page") int page,
                @WebParam(name = "size") int size) {
            if (!"s3cret".equals(key)) {
                return "403:login timeout";
            }
            StringBuilder text = new StringBuilder("<?xml version=\"1.0\" encoding=\"GBK\"?><DATAS>");
            for (int i = 0; i < size && page <= 3 && !(page == 3 && i > 0); i++) {
                text.append("<DATA><wsh>测罚〔2026〕").append((page - 1) * size + i).append("号</wsh>")
                    .append("<mc>测试 &amp; 样例</mc></DATA>");
            }
            return text.append("</DATAS>").toString();
        }

        @WebMethod
        public String fail() {
            throw new IllegalStateException("系统繁忙");
        }
    }

    @WebService(targetNamespace = "http://national.peers/")
    public static class National {
        /** Refuses the rows whose name holds 拒. */
        @WebMethod
        public String importPenalyXml(@WebParam(name = "token") String token, @WebParam(name = "xml") String xml)
                throws Exception {
            if (!"s3cret".equals(token)) {
                return "<code>99</code>";
            }
            org.w3c.dom.NodeList rows = javax.xml.parsers.DocumentBuilderFactory.newInstance()
                .newDocumentBuilder()
                .parse(new org.xml.sax.InputSource(new java.io.StringReader(xml)))
                .getElementsByTagName("ROW");
            StringBuilder text = new StringBuilder("<code>00</code>");
            for (int i = 0; i < rows.getLength(); i++) {
                if (rows.item(i).getTextContent().contains("拒")) {
                    text.append("<line>").append(i + 1).append(":主体信息不匹配</line>");
                }
            }
            return text.toString();
        }
    }

    @WebService(targetNamespace = "http://vendor.peers/")
    public static class Vendor {
        /** Takes all rows and echoes none; the count is of their keys. */
        @WebMethod
        public String execute(@WebParam(name = "json") String json) {
            if (!json.contains("\"tableCode\":\"T1\"")) {
                return "{\"errorCode\":\"3002\",\"errorMsg\":\"目录不存在\"}";
            }
            int rows = json.split("\"CF_WSH\"", -1).length - 1;
            return "{\"errorCode\":\"200\",\"totalSize\":" + rows + ",\"successSize\":" + (rows - 1)
                + ",\"failSize\":0,\"errorSize\":1,\"errorBody\":\"[{\\\"rowNum\\\":2,\\\"errorMsg\\\":\\\"类别不在目录\\\"}]\"}";
        }
    }

    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
        Endpoint.create(new Data()).publish(server.createContext("/data"));
        Endpoint.create(new National()).publish(server.createContext("/national"));
        Endpoint.create(new Vendor()).publish(server.createContext("/vendor"));
        System.out.println(server.getAddress().getPort());
        System.out.flush();
        while (System.in.read() >= 0) {
            // Until whoever started it lets go.
        }
        System.exit(0);
    }
}
