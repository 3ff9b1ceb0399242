import java.lang.reflect.Field;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.List;
import javax.xml.bind.annotation.XmlElement;
import xinqiao.push.Finding;
import xinqiao.push.Push;
import xinqiao.push.PushService;
import xinqiao.push.Record;
import xinqiao.push.Result;

/** Pushes records with classes made from the gateway's WSDL: WSDL TOKEN FILE; a line is a cell, `name=text`. */
public class Client {
    public static void main(String[] arguments) throws Exception {
        Push port = new PushService(new java.net.URL(arguments[0])).getPushPort();
        List<Record> records = new java.util.ArrayList<>();
        Record record = new Record();
        for (String line : Files.readAllLines(Paths.get(arguments[2]))) {
            if (line.isEmpty()) {
                records.add(record);
                record = new Record();
                continue;
            }
            String[] cell = line.split("=", 2);
            for (Field field : Record.class.getDeclaredFields()) {
                XmlElement named = field.getAnnotation(XmlElement.class);
                String name = named == null || named.name().equals("##default") ? field.getName() : named.name();
                if (name.equals(cell[0])) {
                    field.setAccessible(true);
                    field.set(record, cell[1]);
                }
            }
        }
        try {
            Result result = port.submit(arguments[1], records);
            Finding first = result.getFinding().stream().filter(one -> one.getLevel().equals("error")).findFirst().get();
            System.out.println("{\"total\":" + result.getTotal() + ",\"refused\":" + result.getRefused()
                + ",\"row\":" + first.getRow() + ",\"rule\":\"" + first.getRule()
                + "\",\"signed\":" + !result.getSignature().isEmpty() + "}");
        } catch (javax.xml.ws.soap.SOAPFaultException fault) {
            System.out.println("{\"fault\":\"" + fault.getFault().getFaultString() + "\"}");
        }
    }
}
