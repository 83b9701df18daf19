//! What the shop shows.

use std::fmt::Write as _;

pub struct Shop {
    /// Which of the shop's pods answers.
    pub pod: String,
    pub greeting: String,
    pub products: Vec<Product>,
}

pub struct Product {
    pub name: String,
    /// As it is written: `4.20`.
    pub price: String,
    pub note: String,
}

/// One product a line: name, price and note, separated by bars.
pub fn products(text: &str) -> Vec<Product> {
    let mut products = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut fields = line.split('|').map(|field| field.trim().to_owned());
        let mut next = || fields.next().unwrap_or_default();
        products.push(Product { name: next(), price: next(), note: next() });
    }
    products
}

const STYLE: &str = "body{font:17px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color:#222}\
    h1{margin-bottom:0}ul{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:1rem;padding:0}\
    li{list-style:none;border:1px solid #ddd;border-radius:.6rem;padding:1rem}b{display:block}\
    .price{float:right;color:#a40}footer{margin-top:3rem;color:#777;font-size:.85rem}";

impl Shop {
    pub fn page(&self) -> String {
        let mut items = String::new();
        for product in &self.products {
            let (name, price, note) = (escape(&product.name), escape(&product.price), escape(&product.note));
            write!(items, "<li><span class=price>{price} €</span><b>{name}</b>{note}</li>").expect("memory");
        }
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>The little shop</title><style>{STYLE}</style>\
             <h1>The little shop</h1><p>{}</p><ul>{items}</ul>\
             <footer>Answered by {}.</footer></html>\n",
            escape(&self.greeting),
            escape(&self.pod)
        )
    }

    pub fn json(&self) -> String {
        let one =
            |product: &Product| format!("{{\"name\":{},\"price\":{}}}", quote(&product.name), quote(&product.price));
        let items: Vec<String> = self.products.iter().map(one).collect();
        format!("{{\"pod\":{},\"products\":[{}]}}\n", quote(&self.pod), items.join(","))
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => write!(quoted, "\\u{:04x}", u32::from(c)).expect("memory"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_shown_and_nothing_of_theirs_is_markup() {
        let products = products("# a comment\nTea <hot> | 4.20 | from \"Assam\"\n\nCup|9|\n");
        let shop = Shop { pod: "www-1".into(), greeting: "Hi & welcome".into(), products };
        assert!(shop.page().contains("<b>Tea &lt;hot&gt;</b>from &quot;Assam&quot;</li>"));
        assert!(shop.page().contains("Hi &amp; welcome") && shop.page().contains("Answered by www-1."));
        let json = "{\"pod\":\"www-1\",\"products\":[{\"name\":\"Tea <hot>\",\"price\":\"4.20\"},{\"name\":\"Cup\",\"price\":\"9\"}]}\n";
        assert_eq!(shop.json(), json);
    }
}
