//! The WSDL 1.1 of a feed. It holds all it needs: a closed network cannot fetch schemas.

use super::{Dialect, Profile};
use crate::wire::soap::Style;
use crate::wire::xml::escape;

/// Writes it for the interface at `address`. SOAP 1.1 only: clients that were made for 1.2 may call
/// the same address, but many tools stumble over a description of both.
pub(super) fn write(dialect: &Dialect, address: &str) -> String {
    let Dialect { operation, .. } = dialect;
    let mut ns = String::new();
    escape(&dialect.namespace, &mut ns);
    let mut at = String::new();
    escape(address, &mut at);
    let document = dialect.style == Style::Document;
    let (types, input, output) = match document {
        true => (
            format!("<wsdl:types>{}</wsdl:types>", schema(dialect, &ns)),
            format!("<wsdl:part name=\"parameters\" element=\"tns:{operation}\"/>"),
            format!("<wsdl:part name=\"parameters\" element=\"tns:{operation}Response\"/>"),
        ),
        false => {
            let part = |name: &str| format!("<wsdl:part name=\"{name}\" type=\"xsd:string\"/>");
            let token = dialect.token.as_deref().map(part).unwrap_or_default();
            (String::new(), token + &part(&dialect.argument), part("return"))
        }
    };
    let (style, body) = match dialect.style {
        Style::Document => ("document", "<soap:body use=\"literal\"/>".to_owned()),
        Style::Rpc => ("rpc", format!("<soap:body use=\"literal\" namespace=\"{ns}\"/>")),
        Style::Encoded => (
            "rpc",
            format!(
                "<soap:body use=\"encoded\" namespace=\"{ns}\" \
                 encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"/>"
            ),
        ),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <wsdl:definitions name=\"XinqiaoPush\" targetNamespace=\"{ns}\" xmlns:tns=\"{ns}\" \
         xmlns:wsdl=\"http://schemas.xmlsoap.org/wsdl/\" \
         xmlns:soap=\"http://schemas.xmlsoap.org/wsdl/soap/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\n{types}\n\
         <wsdl:message name=\"{operation}Request\">{input}</wsdl:message>\n\
         <wsdl:message name=\"{operation}Response\">{output}</wsdl:message>\n\
         <wsdl:portType name=\"Push\"><wsdl:operation name=\"{operation}\">\
         <wsdl:input message=\"tns:{operation}Request\"/>\
         <wsdl:output message=\"tns:{operation}Response\"/></wsdl:operation></wsdl:portType>\n\
         <wsdl:binding name=\"PushSoap\" type=\"tns:Push\">\
         <soap:binding style=\"{style}\" transport=\"http://schemas.xmlsoap.org/soap/http\"/>\
         <wsdl:operation name=\"{operation}\"><soap:operation soapAction=\"\"/>\
         <wsdl:input>{body}</wsdl:input><wsdl:output>{body}</wsdl:output>\
         </wsdl:operation></wsdl:binding>\n\
         <wsdl:service name=\"PushService\"><wsdl:port name=\"PushPort\" binding=\"tns:PushSoap\">\
         <soap:address location=\"{at}\"/></wsdl:port></wsdl:service>\n</wsdl:definitions>\n"
    )
}

fn schema(dialect: &Dialect, ns: &str) -> String {
    let Dialect { operation, argument, .. } = dialect;
    let element = |name: &str, kind: &str, more: &str| {
        format!("<xsd:element name=\"{name}\" type=\"{kind}\"{more}/>")
    };
    let token =
        dialect.token.as_deref().map(|name| element(name, "xsd:string", "")).unwrap_or_default();
    let any = " minOccurs=\"0\" maxOccurs=\"unbounded\"";
    let maybe = " minOccurs=\"0\"";
    let (input, output, types) = match dialect.profile {
        Profile::Records => {
            let columns: String =
                dialect.columns.iter().map(|name| element(name, "xsd:string", maybe)).collect();
            let text = |name: &str| element(name, "xsd:string", "");
            let count = |name: &str| element(name, "xsd:long", maybe);
            let finding = element("row", "xsd:long", "")
                + &element("document", "xsd:string", maybe)
                + &text("level")
                + &text("rule")
                + &element("field", "xsd:string", maybe)
                + &text("text")
                + &text("fix");
            let result = text("code")
                + &text("text")
                + &element("message", "xsd:long", "")
                + &element("duplicate", "xsd:boolean", "")
                + &["total", "success", "doubtful", "refused"].map(count).concat()
                + &element("finding", "tns:Finding", any)
                + &element("more", "xsd:boolean", "")
                + &text("statement")
                + &text("signature");
            // In any order, and each at most once: agencies fill what they have.
            let types = format!(
                "<xsd:complexType name=\"Record\"><xsd:all>{columns}</xsd:all></xsd:complexType>\
                 <xsd:complexType name=\"Finding\"><xsd:sequence>{finding}</xsd:sequence></xsd:complexType>\
                 <xsd:complexType name=\"Result\"><xsd:sequence>{result}</xsd:sequence></xsd:complexType>"
            );
            (element(argument, "tns:Record", any), element("result", "tns:Result", ""), types)
        }
        Profile::Json | Profile::Xml => (
            element(argument, "xsd:string", ""),
            element("return", "xsd:string", ""),
            String::new(),
        ),
    };
    format!(
        "<xsd:schema targetNamespace=\"{ns}\" elementFormDefault=\"unqualified\">{types}\
         <xsd:element name=\"{operation}\"><xsd:complexType><xsd:sequence>{token}{input}\
         </xsd:sequence></xsd:complexType></xsd:element>\
         <xsd:element name=\"{operation}Response\"><xsd:complexType><xsd:sequence>{output}\
         </xsd:sequence></xsd:complexType></xsd:element></xsd:schema>"
    )
}
